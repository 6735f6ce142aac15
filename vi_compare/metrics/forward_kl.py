"""Forward KL in nats, on draws of the target that no fit has seen."""

from dataclasses import replace

from vi_compare.evidence import ALL, Estimate, Evidence


def measure(evidence: Evidence) -> dict[str, Estimate]:
    """KL(p‖q) = E_p[log p − log q]: nats lost per draw of the target coded by q."""
    kl = evidence.above(plus=evidence.log_z.minus())
    return {ALL: replace(kl, floor=evidence.training_floor)}
