"""Pareto k̂ of importance weights (Vehtari et al. 2024), by ArviZ."""

from __future__ import annotations

import numpy as np

# Log weights that differ by less are equal: they have no tail to fit.
EQUAL = 1e-9


def pareto_khat(log_weights: np.ndarray) -> float:
    """k̂ of finite log weights (n,); −inf where all are equal, for nothing could be lighter,
    NaN where the tail could not be fitted."""
    from arviz_stats.base import array_stats

    if np.ptp(log_weights) < EQUAL:
        return -np.inf
    # ArviZ wants the negated log weights; with the other sign the verdict flips.
    khat = float(array_stats.psislw(-log_weights)[1])
    return khat if np.isfinite(khat) else np.nan
