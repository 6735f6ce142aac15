"""Importance weights p/q: Pareto k̂ and smoothing (Vehtari et al. 2024), by ArviZ."""

from __future__ import annotations

import math

import numpy as np

NO_TAIL = "the largest weights are all equal: they have no tail to fit"


def pareto_khat(log_weights: np.ndarray) -> float:
    """k̂ of finite log weights (n,); −inf where the largest are all equal, for nothing could
    be lighter, NaN where the tail could not be fitted."""
    khat = smoothed(log_weights)[1]
    return khat if khat < np.inf else np.nan


def usable_weights(log_weights: np.ndarray) -> tuple[np.ndarray | None, str]:
    """Smoothed weights (n,) of finite log weights (n,), which add up to 1; or None and the
    reason."""
    found, khat = smoothed(log_weights)
    limit = khat_limit(log_weights.size)
    if not khat <= limit:
        return None, f"the weights are too heavy: k̂ = {khat:.2f}, and {limit:.2f} is the limit"
    return np.exp(found), ""


def khat_limit(n: int) -> float:
    """Largest k̂ at which weights of n draws can be used (Vehtari et al. 2024)."""
    return min(1 - 1 / math.log10(n), 0.7) if n > 10 else 0.0


def tail_length(n: int) -> float:
    """Number of the largest of n draws that a tail is fitted to."""
    return min(0.2 * n, 3 * math.sqrt(n))


def khat_error(khat: float, n: int) -> float:
    """Asymptotic error of the shape of a generalised Pareto tail (Smith 1987).

    Below −½, where maximum likelihood is not regular, the one at −½.
    """
    return max(1 + khat, 0.5) / math.sqrt(tail_length(n))


def tail_khat(x: np.ndarray, tail: str) -> float:
    """k̂ of the "right" tail, or the worse of "both", of draws x (n,); NaN where none fits."""
    from arviz_stats.base import array_stats

    try:
        # ArviZ divides by the sum, which may be zero, and does not use the quotient.
        with np.errstate(all="ignore"):
            return float(array_stats.pareto_khat(x[None], r_eff=1.0, tail=tail))
    except ValueError:  # all values of a tail are the same
        return math.nan


def too_heavy_to_average(x: np.ndarray) -> bool:
    """Whether the right tail of x (n,) may be too heavy for a mean of n: it is likely to be too
    low then, and its standard error says nothing. Where the largest draws are missing that make
    the mean too low, k̂ is too low as well; so its own error counts."""
    khat = tail_khat(x, "right")
    return bool(khat + khat_error(khat, x.size) > khat_limit(x.size))


def smoothed(log_weights: np.ndarray, equal: float = 1e-9) -> tuple[np.ndarray, float]:
    """Smoothed log weights (n,), normalised, and k̂.

    Log weights that differ by less than `equal` have no tail to fit: they come back
    unsmoothed, with k̂ = −inf. Where the tail could not be fitted, k̂ = inf.
    """
    from arviz_stats.base import array_stats

    plain = log_weights - np.logaddexp.reduce(log_weights)
    if np.ptp(log_weights) < equal:
        return plain, -np.inf
    try:
        # ArviZ wants the negated log weights; with the other sign the verdict flips. Of a tail
        # of equal weights it divides by zero, and says so by a shape that is not finite.
        with np.errstate(all="ignore"):
            found, khat = array_stats.psislw(-log_weights)
    except ValueError:  # a plateau: the largest weights are all equal
        return plain, -np.inf
    if not np.isfinite(found).all():  # nor could it be smoothed
        return plain, np.inf
    return found, float(khat) if np.isfinite(khat) else np.inf
