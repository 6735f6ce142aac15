"""The evidence upper bound."""

from vi_compare.evidence import ALL, About, Estimate, Evidence, Kind

ABOUT = About(
    name="EUBO",
    meaning="EUBO = E_p[log p̃ − log q], at least log Z; comparable between fits of one target.",
    kind=Kind.SMALLER,
    unit="nats",
)


def measure(evidence: Evidence) -> dict[str, Estimate]:
    return {ALL: evidence.above()}
