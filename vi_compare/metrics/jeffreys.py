"""Jeffreys' divergence: both KLs together, for which log Z need not be known."""

from vi_compare.evidence import ALL, About, Estimate, Evidence, Kind

ABOUT = About(
    name="Jeffreys",
    meaning="KL(p‖q) + KL(q‖p) = E_p[log p̃ − log q] + E_q[log q − log p̃]; log Z cancels.",
    kind=Kind.SMALLER,
    unit="nats",
    perfect=0.0,
    trained_by=("jeffreys",),
)


def measure(evidence: Evidence) -> dict[str, Estimate]:
    return {ALL: evidence.above(plus=evidence.below())}
