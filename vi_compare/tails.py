"""Quantiles and what lies beyond them, with standard errors from order statistics."""

from __future__ import annotations

import numpy as np

from vi_compare.evidence import Estimate

LEVEL = 0.01


def share_below_quantile(values, reference, level: float) -> Estimate:
    """P(value < the `level` quantile of reference); both (·,) of independent draws.

    Its error has two parts: the share itself is a binomial proportion, and the quantile
    is uncertain by one standard error of its rank either way.
    """
    values, low, middle, high = np.asarray(values), *quantile_band(reference, level)
    share = Estimate.share(values < middle, floor=level)
    moved = (np.mean(values < high) - np.mean(values < low)) / 2
    error = float(np.hypot(share.standard_error or 0.0, moved))
    return Estimate(share.value, error, "1", values.size, level)


def quantile_band(draws, level: float) -> tuple[float, float, float]:
    """The quantile one standard error of its rank down, itself, and one up."""
    x = np.asarray(draws)
    step = np.sqrt(level * (1 - level) / x.size)
    levels = np.clip([level - step, level, level + step], 0.0, 1.0)
    low, middle, high = np.quantile(x, levels)
    return float(low), float(middle), float(high)


def quantile_error(draws, level: float) -> float:
    """Standard error of a quantile of independent draws (n,)."""
    low, _, high = quantile_band(draws, level)
    return (high - low) / 2
