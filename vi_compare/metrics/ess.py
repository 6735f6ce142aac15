"""Effective sample size of the importance weights p/q."""

import numpy as np

from vi_compare.evidence import ALL, Estimate, Evidence


def measure(evidence: Evidence) -> dict[str, Estimate]:
    """(Σw)²/(nΣw²) for w = p/q on draws of q, a share of n; blind to what q never visits."""
    q = evidence.q
    if q.log_p is None or q.log_q is None:
        return {ALL: Estimate.missing(q.reason)}
    log_w = np.asarray(q.log_p - q.log_q)
    if not np.isfinite(log_w).all():
        return {ALL: Estimate.missing("some weights are not finite")}
    w = np.exp(log_w - log_w.max())
    first, second = w.mean(), (w**2).mean()
    share = first**2 / second
    # Delta method on the two means.
    slope = share * (2 * w / first - w**2 / second - 1)
    return {ALL: Estimate(float(share), float(slope.std(ddof=1) / np.sqrt(w.size)), "1", w.size)}
