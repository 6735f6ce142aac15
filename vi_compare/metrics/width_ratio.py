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
from vi_compare.metrics._quantiles import ENDS, quantiles_with_errors

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
    (width_q, error_q), (width_p, error_p) = _width(q, fit), _width(p, test)
    if not width_p > 0:
        return Estimate.missing("the target's draws do not vary here")
    ratio = width_q / width_p
    error = np.hypot(error_q, ratio * error_p) / width_p
    return Estimate(ratio, float(error), "1", q.size, 1.0)


def _width(x: np.ndarray, draws: Draws) -> tuple[float, float]:
    """Length of the interval, and its standard error."""
    (low, high), errors = quantiles_with_errors(x, ENDS, draws)
    return float(high - low), float(np.hypot(*errors))
