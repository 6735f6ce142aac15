"""Errors of the marginal means."""

import numpy as np

from vi_compare.evidence import ALL, NO_REFERENCE, Estimate, Evidence, margins, worst


def measure(evidence: Evidence) -> dict[str, Estimate]:
    """(mean of q − mean of p) ÷ sd of p, per margin; the headline is the largest."""
    if evidence.test is None or evidence.floor is None:
        return {ALL: Estimate.missing(NO_REFERENCE, "sd")}
    p, q = margins(evidence.test.values), margins(evidence.q.values)
    again = margins(evidence.floor.values)
    n = {label: (evidence.q.effective(q[label]), evidence.test.effective(p[label])) for label in p}
    return worst({label: _shift(q[label], p[label], again[label], *n[label]) for label in p}, abs)


def _shift(q: np.ndarray, p: np.ndarray, again: np.ndarray, n_q: float, n_p: float) -> Estimate:
    sd = p.std(ddof=1)
    if not sd > 0:
        return Estimate.missing("the target's draws do not vary here", "sd")
    error = np.sqrt(q.var(ddof=1) / n_q + p.var(ddof=1) / n_p) / sd
    floor = abs(again.mean() - p.mean()) / sd
    return Estimate(float((q.mean() - p.mean()) / sd), float(error), "sd", q.size, float(floor))
