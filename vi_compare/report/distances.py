"""Distances between p and q from log-ratios at draws of both, each with its standard error.

Jensen-Shannon, Rényi ½ and total variation are all means under the mixture m = (p + q)/2
of a bounded function of r = log p − log q, so half the draws of each side estimate them
with finite variance, whatever the tails do, and no draw adds a negative amount.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from vi_compare.estimate import Estimate

# Ratios beyond this many nats are beyond float64 once exponentiated.
FURTHEST = 700.0

Function = Callable[[np.ndarray], np.ndarray]


def jeffreys(under_p: np.ndarray, under_q: np.ndarray) -> Estimate:
    """KL(p‖q) + KL(q‖p) in nats; a constant in log p cancels, so log Z need not be known."""
    return Estimate.mean(under_p, "nats", plus=Estimate.mean(-under_q, "nats"))


def jensen_shannon(under_p: np.ndarray, under_q: np.ndarray, log_z_error: float = 0.0) -> Estimate:
    """½ KL(p‖m) + ½ KL(q‖m) in nats, at most log 2."""
    return _under_mixture(_entropy_gap, under_p, under_q, log_z_error, "nats")


def total_variation(under_p: np.ndarray, under_q: np.ndarray, log_z_error: float = 0.0) -> Estimate:
    """½ ∫ |p − q|, a share between 0 and 1."""
    return _under_mixture(lambda r: np.abs(np.tanh(r / 2)), under_p, under_q, log_z_error)


def renyi_half(under_p: np.ndarray, under_q: np.ndarray, log_z_error: float = 0.0) -> Estimate:
    """D_½ = −2 log ∫ √(pq) in nats; the same for (p, q) and (q, p)."""
    gap = _under_mixture(lambda r: 1 - 1 / np.cosh(r / 2), under_p, under_q, log_z_error)
    if gap.value is None:
        return gap
    overlap = 1 - gap.value
    if overlap <= 2 * (gap.standard_error or 0.0):
        return Estimate.missing("p and q overlap too little for so many draws", "nats")
    error = 2 * (gap.standard_error or 0.0) / overlap
    return replace(gap, value=-2 * float(np.log(overlap)), standard_error=error, unit="nats")


def wasserstein(x: np.ndarray, y: np.ndarray) -> Estimate:
    """W₁ between draws x (n,) and y (m,) of one margin, in its units.

    The error is that of the potential whose difference in means is W₁; the floor is what
    two sets of draws of x's own law would show.
    """
    grid = np.sort(np.concatenate([x, y]))
    gap = _cdf(x, grid[:-1]) - _cdf(y, grid[:-1])
    steps = np.diff(grid)
    potential = np.concatenate([[0.0], np.cumsum(-np.sign(gap) * steps)])
    at = lambda z: potential[np.searchsorted(grid, z)]
    error = np.sqrt(at(x).var() / x.size + at(y).var() / y.size)
    half = np.sort(x[::2]), np.sort(x[1::2])
    n = min(map(len, half))
    # Halves of x stand further apart than x and a y of full size would.
    floor = np.abs(half[0][:n] - half[1][:n]).mean() * np.sqrt((1 / x.size + 1 / y.size) / (2 / n))
    return Estimate(float(np.abs(gap) @ steps), float(error), "1", x.size, float(floor))


def _cdf(draws: np.ndarray, at: np.ndarray) -> np.ndarray:
    return np.searchsorted(np.sort(draws), at, side="right") / draws.size


def _entropy_gap(r: np.ndarray) -> np.ndarray:
    """log 2 less the entropy of (p, q)/(p + q)."""
    s = 1 / (1 + np.exp(-r))
    return np.log(2) - s * np.logaddexp(0, -r) - (1 - s) * np.logaddexp(0, r)


def _under_mixture(
    function: Function, under_p: np.ndarray, under_q: np.ndarray, log_z_error: float, unit="1"
) -> Estimate:
    """½ E_p[f(r)] + ½ E_q[f(r)]; an error of log Z moves every r, and is carried along."""
    f = lambda r, shift=0.0: 0.5 * function(np.clip(r + shift, -FURTHEST, FURTHEST))
    found = Estimate.mean(f(under_p), unit, plus=Estimate.mean(f(under_q), unit))
    if found.value is None or not log_z_error:
        return found
    low, high = (
        f(under_p, shift).mean() + f(under_q, shift).mean() for shift in (-log_z_error, log_z_error)
    )
    error = float(np.hypot(found.standard_error or 0.0, (high - low) / 2))
    return replace(found, standard_error=error)
