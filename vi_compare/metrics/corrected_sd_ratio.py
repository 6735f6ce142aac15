"""Ratios of the marginal standard deviations after reweighting."""

import numpy as np

from vi_compare.estimate import worst_few
from vi_compare.evidence import ALL, NO_REFERENCE, About, Estimate, Evidence, MetricKind

ABOUT = About(
    name="corrected sd ratio",
    meaning="sd of q by smoothed weights p/q ÷ sd of p, per margin; the one furthest from 1.",
    kind=MetricKind.RATIO,
    perfect=1.0,
)


def measure(evidence: Evidence) -> dict[str, Estimate]:
    test = evidence.test
    if test is None:
        return {ALL: Estimate.missing(NO_REFERENCE)}
    weights, reason = evidence.q.usable_weights()
    if weights is None:
        return {ALL: Estimate.missing(reason)}
    q, p, _ = evidence.margins
    values = {x: _sd(q[x], weights) / p[x].std(ddof=1) for x in p}

    def estimate(label: str) -> Estimate:
        ratio, of_p = values[label], p[label]
        square = ((of_p - of_p.mean()) / of_p.std()) ** 2
        relative = np.hypot(
            _error(q[label], weights), np.sqrt(square.var() / test.effective(square)) / 2
        )
        return Estimate(ratio, float(ratio * relative), "1", weights.size, 1.0)

    return worst_few(values, ABOUT.badness, estimate)


def _sd(x: np.ndarray, weights: np.ndarray) -> float:
    return float(np.sqrt(weights @ (x - weights @ x) ** 2))


def _error(x: np.ndarray, weights: np.ndarray) -> float:
    """Relative standard error of a weighted standard deviation, by the delta method."""
    square = (x - weights @ x) ** 2
    variance = weights @ square
    if not variance > 0:
        return 0.0
    return float(np.sqrt(weights**2 @ (square / variance - 1) ** 2) / 2)
