"""Total variation: the largest error of any probability."""

import numpy as np

from vi_compare.evidence import ALL, About, Estimate, Evidence, Kind
from vi_compare.metrics._overlap import under_mixture

ABOUT = About(
    name="total variation",
    meaning="½ ∫ |p − q|, 0 to 1: by how much q can get the probability of an event wrong.",
    kind=Kind.SMALLER,
    perfect=0.0,
    good=0.1,
    near=0.3,
    percent=True,
    heading="Total",
    below="variation",
)


def measure(evidence: Evidence) -> dict[str, Estimate]:
    # |p − q| ÷ (p + q) = |tanh(r/2)|
    return {ALL: under_mixture(evidence, lambda r: np.abs(np.tanh(r / 2)))}
