"""Ratios of the marginal standard deviations."""

import numpy as np

from vi_compare.evidence import ALL, NO_REFERENCE, Draws, Estimate, Evidence, margins, worst


def measure(evidence: Evidence) -> dict[str, Estimate]:
    """sd of q ÷ sd of p, per margin; the headline is the one furthest from 1."""
    if evidence.test is None:
        return {ALL: Estimate.missing(NO_REFERENCE)}
    p, q = margins(evidence.test.values), margins(evidence.q.values)
    by = {label: _ratio(q[label], p[label], evidence.q, evidence.test) for label in p}
    return worst(by, lambda ratio: abs(np.log(max(ratio, 1e-300))))


def _ratio(q: np.ndarray, p: np.ndarray, fit: Draws, test: Draws) -> Estimate:
    if not p.std() > 0:
        return Estimate.missing("the target's draws do not vary here")
    ratio = float(q.std(ddof=1) / p.std(ddof=1))
    return Estimate(
        ratio, ratio * float(np.hypot(_error(q, fit), _error(p, test))), "1", q.size, 1.0
    )


def _error(x: np.ndarray, draws: Draws) -> float:
    """Relative standard error of a standard deviation: √((kurtosis − 1) / 4n)."""
    z = (x - x.mean()) / (x.std() or 1.0)
    return float(np.sqrt(max(0.0, (z**4).mean() - 1) / (4 * draws.effective(z**2))))
