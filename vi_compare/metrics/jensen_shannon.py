"""Jensen-Shannon divergence: a KL that no missing tail makes infinite."""

import numpy as np

from vi_compare.evidence import ALL, About, Estimate, Evidence, Kind
from vi_compare.metrics._overlap import under_mixture

ABOUT = About(
    name="Jensen-Shannon",
    meaning=(
        "½ KL(p‖m) + ½ KL(q‖m) for m = (p + q)/2: nats that a draw tells of its origin, ≤ log 2."
    ),
    kind=Kind.SMALLER,
    unit="nats",
    perfect=0.0,
    heading="JS",
    below="≤ 0.693",
    trained_by=("jensen-shannon",),
)


def measure(evidence: Evidence) -> dict[str, Estimate]:
    return {ALL: under_mixture(evidence, _told, "nats")}


def _told(r: np.ndarray) -> np.ndarray:
    """log 2 less the entropy of the odds p : q."""
    share = 1 / (1 + np.exp(-r))
    return np.log(2) - share * np.logaddexp(0, -r) - (1 - share) * np.logaddexp(0, r)
