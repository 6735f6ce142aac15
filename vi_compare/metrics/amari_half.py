"""Amari's divergence at α = ½, four times the squared Hellinger distance."""

import numpy as np

from vi_compare.evidence import ALL, About, Estimate, Evidence, Kind
from vi_compare.metrics._overlap import under_mixture

ABOUT = About(
    name="Amari ½",
    meaning="A_½ = 4 (1 − ∫ √(pq)), 0 to 4: midway between the KLs; a quarter is Hellinger².",
    kind=Kind.SMALLER,
    perfect=0.0,
    heading="Amari ½",
    below="≤ 4",
    trained_by=("alpha:0.5",),
)


def measure(evidence: Evidence) -> dict[str, Estimate]:
    # √(pq) ÷ ((p + q)/2) = 1/cosh(r/2)
    return {ALL: under_mixture(evidence, lambda r: 4 * (1 - 1 / np.cosh(r / 2)))}
