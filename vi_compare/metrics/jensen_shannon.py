"""Jensen-Shannon divergence: a KL that no missing tail makes infinite."""

import numpy as np

from vi_compare.evidence import ALL, Estimate, Evidence
from vi_compare.metrics._overlap import under_mixture


def measure(evidence: Evidence) -> dict[str, Estimate]:
    """½ KL(p‖m) + ½ KL(q‖m) for m = (p + q)/2: nats that a draw tells of its origin, ≤ log 2."""
    return {ALL: under_mixture(evidence, _told, "nats")}


def _told(r: np.ndarray) -> np.ndarray:
    """log 2 less the entropy of the odds p : q."""
    share = 1 / (1 + np.exp(-r))
    return np.log(2) - share * np.logaddexp(0, -r) - (1 - share) * np.logaddexp(0, r)
