"""Random starting points where a target can be used: finite density, finite gradient."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from vi_compare.errors import InputError
from vi_compare.randomness import generator, power_of_two, split
from vi_compare.scores import ROWS, values_and_slopes
from vi_compare.target import Target


@dataclass(frozen=True)
class Wider:
    """Where starts are looked for when the usual ones see nothing.

    Attributes:
        radii: of the cubes that candidates come from, in units of u.
        each: candidates from each cube.
        above: nats that the best candidate must be above the best usual start,
        times: and so many times the range of log p over the usual starts.
        near: half the width of the cube around a candidate that other starts come from.
    """

    radii: tuple[float, ...] = (4.0, 8.0, 16.0, 32.0)
    each: int = 32
    above: float = 10.0
    times: float = 3.0
    near: float = 0.5


def starting_points(
    target: Target,
    key: Array,
    n: int,
    values: Callable | None = None,
    radius: float = 2.0,
    tries: int = 10,
) -> Array:
    """n points (n, d) from U(−radius, radius)^d with finite log p and finite gradient.

    Where log p is all but flat over them and far higher elsewhere, as where a "safe" bound of
    10,000 keeps every start away from the data, they come from there (`Wider`).

    Args:
        values: log p (m,) and its gradient (m, d) at points (m, d), for a caller that counts
            them.
        radius: 2 on every coordinate of u is Stan's and NumPyro's convention.
        tries: n candidates each, before giving up.

    Raises:
        InputError: when no candidate is usable; it says what they gave.
    """
    ask = values or partial(values_and_slopes, target)
    candidates = lambda attempt: _candidates(attempt, n, target.dim, radius)
    points, log_p = _usable(ask, map(candidates, split(key, tries)), n)
    if not len(points):
        what = "NaN" if np.isnan(log_p).all() else "−inf, NaN or of infinite gradient"
        raise InputError(
            f"the log density is {what} at every one of {tries * n} starting points in "
            f"U(−{radius:g}, {radius:g}) of the unconstrained space; check the data for "
            f"missing values and the model for impossible observations"
        )
    elsewhere = _where_there_is_more(ask, key, target.dim, log_p, n)
    points = points if elsewhere is None else elsewhere
    return jnp.asarray(points[np.arange(n) % len(points)])


def _usable(ask: Callable, attempts: Iterable[np.ndarray], n: int) -> tuple[np.ndarray, np.ndarray]:
    """At least n usable points (m, d), as far as the attempts have them, and log p there; where
    there is none, what log p was last."""
    found: list[np.ndarray] = []
    heights: list[np.ndarray] = []
    for candidates in attempts:
        log_p, fine = _asked(ask, candidates)
        found.append(candidates[fine])
        heights.append(log_p[fine])
        if sum(map(len, found)) >= n:
            break
    points = np.concatenate(found)
    return points, np.concatenate(heights) if len(points) else log_p


def _asked(ask: Callable, u: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """log p (m,) at points u (m, d), and whether it and its gradient are finite."""
    with warnings.catch_warnings():
        # NumPyro warns of values outside a support; they are left out.
        warnings.simplefilter("ignore")
        log_p, gradient = ask(u)
    return log_p, np.isfinite(log_p) & np.isfinite(gradient).all(axis=1)


def _where_there_is_more(
    ask: Callable, key: Array, dim: int, seen: np.ndarray, n: int, wider: Wider = Wider()
) -> np.ndarray | None:
    """n points far above all that was `seen` (m,), or None where there are none, or where the
    starts differ enough for an ascent to find its way."""
    needed = seen.max() + wider.above + wider.times * np.ptp(seen)
    if np.ptp(seen) > wider.above * dim:
        return None
    rng = generator(key)
    cubes = [rng.uniform(-r, r, (wider.each, dim)) for r in wider.radii]
    u = np.concatenate(cubes)
    log_p, fine = _asked(ask, u)
    best = u[fine & (log_p > needed)]
    if not len(best):
        return None
    around = best[np.arange(4 * n) % len(best)]
    around = around + rng.uniform(-wider.near, wider.near, around.shape)
    log_p, fine = _asked(ask, around)
    return np.concatenate([around[fine & (log_p > needed)], best])[:n]


def _candidates(key: Array, n: int, dim: int, radius: float) -> np.ndarray:
    """(n, dim); drawn in a shape that most numbers of starts share, compiled once."""
    rows = max(ROWS, power_of_two(n))
    return np.asarray(_uniform(key, (rows, dim), radius))[:n]


@partial(jax.jit, static_argnums=(1, 2))
def _uniform(key: Array, shape: tuple[int, int], radius: float) -> Array:
    return jax.random.uniform(key, shape, minval=-radius, maxval=radius)
