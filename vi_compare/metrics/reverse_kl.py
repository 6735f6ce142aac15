"""Reverse KL in nats, on fresh draws of the fit."""

from vi_compare.evidence import ALL, Estimate, Evidence


def measure(evidence: Evidence) -> dict[str, Estimate]:
    """KL(q‖p) = E_q[log q − log p]: nats lost per draw of the fit."""
    q = evidence.q
    if q.log_p is None or q.log_q is None:
        return {ALL: Estimate.missing(q.reason, "nats")}
    return {ALL: Estimate.mean(q.log_q - q.log_p, "nats", plus=evidence.log_z)}
