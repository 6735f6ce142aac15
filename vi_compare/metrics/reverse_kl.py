"""Reverse KL in nats, on fresh draws of the fit."""

from vi_compare.evidence import ALL, Estimate, Evidence


def measure(evidence: Evidence) -> dict[str, Estimate]:
    """KL(q‖p) = E_q[log q − log p]: nats lost per draw of the fit."""
    return {ALL: evidence.below(plus=evidence.log_z)}
