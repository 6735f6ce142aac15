"""Amari's divergence at α = ½, four times the squared Hellinger distance."""

import numpy as np

from vi_compare.evidence import ALL, Estimate, Evidence
from vi_compare.metrics._overlap import under_mixture


def measure(evidence: Evidence) -> dict[str, Estimate]:
    """A_½ = 4 (1 − ∫ √(pq)), 0 to 4: midway between the KLs; a quarter is Hellinger²."""
    # √(pq) ÷ ((p + q)/2) = 1/cosh(r/2)
    return {ALL: under_mixture(evidence, lambda r: 4 * (1 - 1 / np.cosh(r / 2)))}
