"""Ratios of the widths of 90 % intervals: sd ratios that heavy tails cannot break."""

import numpy as np

from vi_compare.evidence import (
    ALL,
    NO_REFERENCE,
    About,
    Draws,
    Estimate,
    Evidence,
    MetricKind,
    worst,
)
from vi_compare.metrics._quantiles import ENDS, quantile_error

ABOUT = About(
    name="width ratio",
    meaning="Length of the 5-95 % interval of the fit ÷ of the target, worst margin.",
    kind=MetricKind.RATIO,
    perfect=1.0,
    good=1.1,
    near=1.25,
    heading="Length",
    below="÷ target",
)


def measure(evidence: Evidence) -> dict[str, Estimate]:
    if evidence.test is None:
        return {ALL: Estimate.missing(NO_REFERENCE)}
    q, p, _ = evidence.margins
    by = {label: _ratio(q[label], p[label], evidence.q, evidence.test) for label in p}
    return worst(by, ABOUT.badness)


def _ratio(q: np.ndarray, p: np.ndarray, fit: Draws, test: Draws) -> Estimate:
    width_q, width_p = (float(np.diff(np.quantile(x, ENDS))[0]) for x in (q, p))
    if not width_p > 0:
        return Estimate.missing("the target's draws do not vary here")
    ratio = width_q / width_p
    error = np.hypot(_error(q, fit) / width_p, ratio * _error(p, test) / width_p)
    return Estimate(ratio, float(error), "1", q.size, 1.0)


def _error(x: np.ndarray, draws: Draws) -> float:
    low, high = (quantile_error(x, level, draws) for level in ENDS)
    return float(np.hypot(low, high))
