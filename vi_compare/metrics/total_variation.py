"""Total variation: the largest error of any probability."""

import numpy as np

from vi_compare.evidence import ALL, Estimate, Evidence
from vi_compare.metrics._overlap import under_mixture


def measure(evidence: Evidence) -> dict[str, Estimate]:
    """½ ∫ |p − q|, 0 to 1: by how much q can get the probability of an event wrong."""
    # |p − q| ÷ (p + q) = |tanh(r/2)|
    return {ALL: under_mixture(evidence, lambda r: np.abs(np.tanh(r / 2)))}
