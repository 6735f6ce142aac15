"""Jeffreys' divergence: both KLs together, for which log Z need not be known."""

from vi_compare.evidence import ALL, Estimate, Evidence


def measure(evidence: Evidence) -> dict[str, Estimate]:
    """KL(p‖q) + KL(q‖p) = E_p[log p̃ − log q] + E_q[log q − log p̃]; log Z cancels."""
    return {ALL: evidence.above(plus=evidence.below())}
