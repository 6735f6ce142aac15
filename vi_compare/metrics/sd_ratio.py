"""Ratios of the marginal standard deviations."""

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
from vi_compare.metrics._quantiles import has_variance, middle

ABOUT = About(
    name="sd ratio",
    meaning="sd of the fit ÷ sd of the target, worst margin.",
    kind=MetricKind.RATIO,
    perfect=1.0,
    good=1.05,
    near=1.25,
    heading="sd",
    below="ratio",
)


def measure(evidence: Evidence) -> dict[str, Estimate]:
    """Where the target's sd does not exist, 16-84 % ranges take the place of both."""
    fit, test = evidence.q, evidence.test
    if test is None:
        return {ALL: Estimate.missing(NO_REFERENCE)}
    q, p, _ = evidence.margins
    by = {label: _ratio(q[label], p[label], fit, test) for label in p}
    return worst(by, ABOUT.badness)


def _ratio(q: np.ndarray, p: np.ndarray, fit: Draws, test: Draws) -> Estimate:
    spread = _sd if has_variance(p) else _range
    (top, top_error), (bottom, bottom_error) = spread(q, fit), spread(p, test)
    ratio = top / bottom
    return Estimate(ratio, ratio * float(np.hypot(top_error, bottom_error)), "1", q.size, 1.0)


def _sd(x: np.ndarray, draws: Draws) -> tuple[float, float]:
    """A standard deviation and its relative standard error, √((kurtosis − 1) / 4n)."""
    z = (x - x.mean()) / (x.std() or 1.0)
    error = np.sqrt(max(0.0, (z**4).mean() - 1) / (4 * draws.effective(z**2)))
    return float(x.std(ddof=1)), float(error)


def _range(x: np.ndarray, draws: Draws) -> tuple[float, float]:
    """Half the 16-84 % range and its relative standard error."""
    *_, half, error = middle(x, draws)
    return half, error / half if half > 0 else 0.0
