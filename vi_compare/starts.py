"""Random starting points where a target can be used: finite density, finite gradient."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import Array

from vi_compare.errors import InputError
from vi_compare.target import Target

RADIUS = 2.0  # Stan's and NumPyro's convention: U(−2, 2) on every coordinate of u.
TRIES = 10


def starting_points(target: Target, key: Array, n: int, values: Callable | None = None) -> Array:
    """n points (n, d) from U(−2, 2)^d with finite log p and finite gradient.

    `values` is log p (m,) and its gradient (m, d) at points (m, d), where they are compiled
    already.

    Raises:
        InputError: when none of 10 n candidates is usable; it says what they gave.
    """
    usable = values or jax.jit(jax.vmap(jax.value_and_grad(target.log_density)))
    found, log_p = [], jnp.zeros(0)
    for attempt in jax.random.split(key, TRIES):
        u = jax.random.uniform(attempt, (n, target.dim), minval=-RADIUS, maxval=RADIUS)
        with warnings.catch_warnings():
            # NumPyro warns of values outside a support; the count below tells as much.
            warnings.simplefilter("ignore")
            log_p, gradient = usable(u)
        found.append(u[jnp.isfinite(log_p) & jnp.isfinite(gradient).all(axis=1)])
        if sum(map(len, found)) >= n:
            break
    points = jnp.concatenate(found)
    if not len(points):
        what = "NaN" if bool(jnp.isnan(log_p).all()) else "−inf, NaN or of infinite gradient"
        raise InputError(
            f"the log density is {what} at every one of {TRIES * n} starting points in "
            f"U(−{RADIUS:g}, {RADIUS:g}) of the unconstrained space; check the data for "
            f"missing values and the model for impossible observations"
        )
    return points[jnp.arange(n) % len(points)]
