"""Jeffreys' divergence: both KLs together, for which log Z need not be known."""

import numpy as np

from vi_compare.evidence import ALL, Estimate, Evidence


def measure(evidence: Evidence) -> dict[str, Estimate]:
    """KL(p‖q) + KL(q‖p) = E_p[log p̃ − log q] + E_q[log q − log p̃]; log Z cancels."""
    q = evidence.q
    if q.log_p is None or q.log_q is None:
        return {ALL: Estimate.missing(q.reason, "nats")}
    reverse = Estimate.mean(np.asarray(q.log_q) - np.asarray(q.log_p), "nats")
    return {ALL: evidence.above(plus=reverse)}
