"""The evidence lower bound."""

from vi_compare.evidence import ALL, Estimate, Evidence


def measure(evidence: Evidence) -> dict[str, Estimate]:
    """ELBO = E_q[log p̃ − log q], at most log Z; comparable between fits of one target."""
    return {ALL: evidence.below().minus()}
