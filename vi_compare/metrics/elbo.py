"""The evidence lower bound."""

from vi_compare.evidence import ALL, About, Estimate, Evidence, Kind

ABOUT = About(
    name="ELBO",
    meaning="ELBO = E_q[log p̃ − log q], at most log Z; comparable between fits of one target.",
    kind=Kind.LARGER,
    unit="nats",
)


def measure(evidence: Evidence) -> dict[str, Estimate]:
    return {ALL: evidence.below().minus()}
