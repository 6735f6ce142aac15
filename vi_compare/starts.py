"""Random starting points where a target can be used: finite density, finite gradient."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from vi_compare.errors import InputError
from vi_compare.randomness import power_of_two, split
from vi_compare.scores import ROWS, values_and_slopes
from vi_compare.target import Target


def starting_points(
    target: Target,
    key: Array,
    n: int,
    values: Callable | None = None,
    radius: float = 2.0,
    tries: int = 10,
) -> Array:
    """n points (n, d) from U(−radius, radius)^d with finite log p and finite gradient.

    Args:
        values: log p (m,) and its gradient (m, d) at points (m, d), for a caller that counts
            them.
        radius: 2 on every coordinate of u is Stan's and NumPyro's convention.
        tries: n candidates each, before giving up.

    Raises:
        InputError: when no candidate is usable; it says what they gave.
    """
    usable = values or partial(values_and_slopes, target)
    found, log_p = [], np.zeros(0)
    for attempt in split(key, tries):
        u = _candidates(attempt, n, target.dim, radius)
        with warnings.catch_warnings():
            # NumPyro warns of values outside a support; they are left out below.
            warnings.simplefilter("ignore")
            log_p, gradient = usable(u)
        found.append(u[np.isfinite(log_p) & np.isfinite(gradient).all(axis=1)])
        if sum(map(len, found)) >= n:
            break
    points = np.concatenate(found)
    if not len(points):
        what = "NaN" if np.isnan(log_p).all() else "−inf, NaN or of infinite gradient"
        raise InputError(
            f"the log density is {what} at every one of {tries * n} starting points in "
            f"U(−{radius:g}, {radius:g}) of the unconstrained space; check the data for "
            f"missing values and the model for impossible observations"
        )
    return jnp.asarray(points[np.arange(n) % len(points)])


def _candidates(key: Array, n: int, dim: int, radius: float) -> np.ndarray:
    """(n, dim); drawn in a shape that most numbers of starts share, compiled once."""
    rows = max(ROWS, power_of_two(n))
    return np.asarray(_uniform(key, (rows, dim), radius))[:n]


@partial(jax.jit, static_argnums=(1, 2))
def _uniform(key: Array, shape: tuple[int, int], radius: float) -> Array:
    return jax.random.uniform(key, shape, minval=-radius, maxval=radius)
