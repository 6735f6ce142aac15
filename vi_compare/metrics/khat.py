"""Pareto k̂ of the importance weights p/q (Vehtari et al. 2024)."""

import numpy as np

from vi_compare.evidence import ALL, Estimate, Evidence
from vi_compare.psis import pareto_khat


def measure(evidence: Evidence) -> dict[str, Estimate]:
    """Pareto k̂ of the weights p/q on draws of q: below min(1 − 1/log10 S, 0.7) they can be used."""
    q = evidence.q
    if q.log_p is None or q.log_q is None:
        return {ALL: Estimate.missing(q.reason)}
    log_weights = np.asarray(q.log_p - q.log_q)
    n = log_weights.size
    if not np.isfinite(log_weights).all():
        return {ALL: Estimate.missing("some weights are not finite")}
    khat = pareto_khat(log_weights)
    if khat == -np.inf:
        return {ALL: Estimate.missing("the largest weights are all equal: they have no tail to fit")}
    tail = min(0.2 * n, 3 * np.sqrt(n))
    if not np.isfinite(khat):
        return {ALL: Estimate.missing("the tail of the weights could not be fitted")}
    # Asymptotic error of the shape of a generalised Pareto tail (Smith 1987).
    return {ALL: Estimate(khat, float(abs(1 + khat) / np.sqrt(tail)), "1", n)}
