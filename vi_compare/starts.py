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

RADIUS = 2.0  # Stan's and NumPyro's convention: U(−2, 2) on every coordinate of u.
TRIES = 10


def starting_points(target: Target, key: Array, n: int, values: Callable | None = None) -> Array:
    """n points (n, d) from U(−2, 2)^d with finite log p and finite gradient.

    `values` is log p (m,) and its gradient (m, d) at points (m, d), where they are to be
    counted.

    Raises:
        InputError: when none of 10 n candidates is usable; it says what they gave.
    """
    usable = values or partial(values_and_slopes, target)
    found, log_p = [], np.zeros(0)
    for attempt in split(key, TRIES):
        u = _candidates(attempt, n, target.dim)
        with warnings.catch_warnings():
            # NumPyro warns of values outside a support; the count below tells as much.
            warnings.simplefilter("ignore")
            log_p, gradient = usable(u)
        found.append(u[np.isfinite(log_p) & np.isfinite(gradient).all(axis=1)])
        if sum(map(len, found)) >= n:
            break
    points = np.concatenate(found)
    if not len(points):
        what = "NaN" if np.isnan(log_p).all() else "−inf, NaN or of infinite gradient"
        raise InputError(
            f"the log density is {what} at every one of {TRIES * n} starting points in "
            f"U(−{RADIUS:g}, {RADIUS:g}) of the unconstrained space; check the data for "
            f"missing values and the model for impossible observations"
        )
    return jnp.asarray(points[np.arange(n) % len(points)])


def _candidates(key: Array, n: int, dim: int) -> np.ndarray:
    """(n, dim); drawn in a shape that most numbers of starts share, compiled once."""
    rows = max(ROWS, power_of_two(n))
    return np.asarray(_uniform(key, (rows, dim)))[:n]


@partial(jax.jit, static_argnums=1)
def _uniform(key: Array, shape: tuple[int, int]) -> Array:
    return jax.random.uniform(key, shape, minval=-RADIUS, maxval=RADIUS)
