"""Forward KL in nats, on draws of the target that no fit has seen."""

from dataclasses import replace

from vi_compare.evidence import ALL, About, Estimate, Evidence, Kind

ABOUT = About(
    name="forward KL",
    meaning="KL(p‖q) = E_p[log p − log q]: nats lost per draw of the target coded by q.",
    kind=Kind.SMALLER,
    unit="nats",
    perfect=0.0,
    good=0.1,
    near=1.0,
    trained_by=("forward-kl",),
)


def measure(evidence: Evidence) -> dict[str, Estimate]:
    kl = evidence.above(plus=evidence.log_z.minus())
    return {ALL: replace(kl, floor=evidence.training_floor)}
