"""Importance weights p/q: Pareto k̂ and smoothing (Vehtari et al. 2024), by ArviZ."""

from __future__ import annotations

import math

import numpy as np

from vi_compare.evidence import Draws

# Log weights that differ by less are equal: they have no tail to fit.
EQUAL = 1e-9


def pareto_khat(log_weights: np.ndarray) -> float:
    """k̂ of finite log weights (n,); −inf where the largest are all equal, for nothing could
    be lighter, NaN where the tail could not be fitted."""
    if np.ptp(log_weights) < EQUAL:
        return -np.inf
    khat = _psislw(log_weights)[1]
    return khat if np.isfinite(khat) else np.nan


def log_ratio(draws: Draws) -> tuple[np.ndarray | None, str]:
    """log p̃ − log q (n,) at draws of either, or None and the reason."""
    if draws.log_p is None or draws.log_q is None:
        return None, draws.reason
    found = np.asarray(draws.log_p) - np.asarray(draws.log_q)
    return (found, "") if np.isfinite(found).all() else (None, "some weights are not finite")


def usable_weights(draws: Draws) -> tuple[np.ndarray | None, str]:
    """Smoothed weights (n,) of draws of q, which add up to 1; or None and the reason."""
    log_weights, reason = log_ratio(draws)
    if log_weights is None:
        return None, reason
    if np.ptp(log_weights) < EQUAL:
        return np.full(log_weights.size, 1 / log_weights.size), ""
    smoothed, khat = _psislw(log_weights)
    limit = most_khat(log_weights.size)
    if not khat <= limit:
        return None, f"the weights are too heavy: k̂ = {khat:.2f}, and {limit:.2f} is the limit"
    return np.exp(smoothed), ""


def most_khat(n: int) -> float:
    """Largest k̂ at which weights of n draws can be used."""
    return min(1 - 1 / math.log10(n), 0.7) if n > 10 else 0.0


def tail_length(n: int) -> float:
    """How many of n draws a tail is fitted to."""
    return min(0.2 * n, 3 * math.sqrt(n))


def khat_error(khat: float, n: int) -> float:
    """Asymptotic error of the shape of a generalised Pareto tail (Smith 1987)."""
    return abs(1 + khat) / math.sqrt(tail_length(n))


def tail_khat(x: np.ndarray, tail: str) -> float:
    """k̂ of the "right" tail, or the worse of "both", of draws x (n,); NaN where none fits."""
    from arviz_stats.base import array_stats

    try:
        # ArviZ divides by the sum, which may be zero, and does not use the quotient.
        with np.errstate(all="ignore"):
            return float(array_stats.pareto_khat(x[None], r_eff=1.0, tail=tail))
    except ValueError:  # all values of a tail are the same
        return math.nan


def _psislw(log_weights: np.ndarray) -> tuple[np.ndarray, float]:
    """Smoothed log weights (n,), normalised, and k̂."""
    from arviz_stats.base import array_stats

    # ArviZ wants the negated log weights; with the other sign the verdict flips.
    smoothed, khat = array_stats.psislw(-log_weights)
    return smoothed, float(khat)
