"""Quantiles and what lies beyond them, with standard errors from order statistics."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from vi_compare.evidence import Draws, Estimate
from vi_compare.psis import pareto_khat

# Share of a distribution that counts as "almost nothing": what lies below this quantile of its
# own log density. A perfect fit misses and invents as much.
LEVEL = 0.01
ENDS = (0.05, 0.95)  # of the 90 % interval whose length and place stand for sd and mean


def share_below_quantile(values, reference, level: float, draws: Draws, of: Draws) -> Estimate:
    """P(value < the `level` quantile of reference); `draws` and `of` are where the two
    (·,) come from, and tell how correlated they are.

    Its error has two parts: the share itself is a binomial proportion, and the quantile
    is uncertain by one standard error of its rank either way.
    """
    values, (low, middle, high) = np.asarray(values), quantile_bands(reference, [level], of)[0]
    below = values < middle
    share = Estimate.share(below, floor=level, effective=draws.effective(below))
    moved = (np.mean(values < high) - np.mean(values < low)) / 2
    error = float(np.hypot(share.standard_error or 0.0, moved))
    return Estimate(share.value, error, "1", values.size, level)


def quantile_bands(x, levels: Sequence[float], draws: Draws) -> np.ndarray:
    """Quantiles of x (n,), each one standard error of its rank down, itself, and one up (L, 3)."""
    x, at = np.asarray(x), np.asarray(levels)
    n = np.full(at.shape, x.size, float)
    if draws.chains:
        n = np.array([draws.effective(x < found) for found in np.quantile(x, at)])
    step = np.sqrt(at * (1 - at) / n)
    # One call for all: with many margins calls are what takes long.
    return np.quantile(x, np.clip([at - step, at, at + step], 0.0, 1.0)).T


def quantiles_with_errors(
    x, levels: Sequence[float], draws: Draws
) -> tuple[np.ndarray, np.ndarray]:
    """Quantiles (L,) of x (n,), of `draws`, and their standard errors (L,)."""
    low, found, high = quantile_bands(x, levels, draws).T
    return found, (high - low) / 2


def central(level: float) -> tuple[float, float]:
    """The levels of the two ends of a central interval."""
    return (1 - level) / 2, (1 + level) / 2


def share_inside(q, p, level: float, fit: Draws, test: Draws) -> Estimate:
    """P(p within the central interval of q at that level); draws (·,) of `fit` and `test`.

    Its error has three parts: that of the share, and each end of the interval, which is
    uncertain by one standard error of its rank either way.
    """
    bands = quantile_bands(q, central(level), fit)
    inside = (p > bands[0][1]) & (p < bands[1][1])
    share = Estimate.share(inside, floor=level, effective=test.effective(inside))
    moved = [np.mean((p > low) & (p < high)) / 2 for low, _, high in bands]
    error = float(np.linalg.norm([share.standard_error or 0.0, *moved]))
    return Estimate(share.value, error, "1", p.size, level)


def has_variance(x: np.ndarray, suspect: float = 10.0) -> bool:
    """Whether the distribution of the draws x (n,) seems to have one: the Pareto shape of the
    tails is not above ½, from which on none exists, by two standard errors (Smith 1987).

    Args:
        suspect: sds from the median that the furthest draw must be for its tail to be fitted;
            lighter tails have a variance.
    """
    off = np.abs(x - np.median(x))
    if not off.max() > suspect * x.std():
        return True
    shape = pareto_khat(np.log(off[off > 0]))
    return not shape - 2 * (1 + shape) / np.sqrt(3 * np.sqrt(x.size)) > 0.5


def middle(x: np.ndarray, draws: Draws) -> tuple[float, float, float, float]:
    """Median of x (n,) and half its 16-84 % range, which are the mean and the sd of a
    Gaussian, each followed by its standard error."""
    levels = (0.1587, 0.5, 0.8413)  # the median and one sd either way, for a Gaussian
    found, errors = quantiles_with_errors(x, levels, draws)
    low, median, high = map(float, found)
    return median, float(errors[1]), (high - low) / 2, float(np.hypot(errors[0], errors[2]) / 2)
