"""Reverse KL in nats, on fresh draws of the fit."""

from vi_compare.evidence import ALL, About, Estimate, Evidence, Kind

ABOUT = About(
    name="reverse KL",
    meaning="KL(q‖p) = E_q[log q − log p]: nats lost per draw of the fit.",
    kind=Kind.SMALLER,
    unit="nats",
    perfect=0.0,
    good=0.1,
    near=1.0,
    trained_by=("reverse-kl",),
)


def measure(evidence: Evidence) -> dict[str, Estimate]:
    return {ALL: evidence.below(plus=evidence.log_z)}
