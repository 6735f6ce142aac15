"""Angles: their ends −π and π are one place, which the vector u does not know.

An angle is an interval over u, and the Jacobian takes a mode at ±π apart into two halves, between
which no chain crosses. So chains move over the angles themselves, round and round, where the
density has no gap; and two modes are compared once more along the way round: the shorter one for
every angle, straight for the other entries.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from numpyro.distributions import biject_to, constraints
from scipy.sparse import csgraph

from vi_compare.scores import values_and_slopes
from vi_compare.target import Target

CIRCLE = biject_to(constraints.circular)
# The ends are infinitely far over u; this near to one, log p is that at the end.
END = np.pi * (1 - 1e-9)


def angles(target: Target) -> np.ndarray:
    """Which entries (d,) of u are angles."""
    return np.array([site.is_circle for site in target.owners])


def unrolled(target: Target) -> Callable[[Array], Array]:
    """The log density () over x (d,), which is u with every angle itself in place of what it is
    over u; it repeats itself with period 2π, and a chain of draws of it stays a chain."""
    turns = angles(target)

    def log_density(x: Array) -> Array:
        u = rolled(target, x)
        return target.log_density(u) - _jacobian(u[turns])

    return log_density if turns.any() else target.log_density


def rolled(target: Target, x: Array) -> Array:
    """x (..., d), as `unrolled` has it -> u (..., d)."""
    turns = angles(target)
    here = jnp.clip(_wrapped(x[..., turns]), -END, END)
    return x.at[..., turns].set(CIRCLE.inv(here)) if turns.any() else x


def unrolled_at(target: Target, u: Array) -> Array:
    """u (..., d) -> x (..., d), as `unrolled` has it."""
    turns = angles(target)
    return u.at[..., turns].set(CIRCLE(u[..., turns])) if turns.any() else u


def across_the_seam(target: Target, modes: np.ndarray, saddle: float) -> np.ndarray:
    """The number (M,) of each mode (M, d) once those that are one on the circle are one.

    Args:
        saddle: smallest depth of a dent in log p, in nats, that separates two modes.
    """
    turns = angles(target)
    a, b = np.triu_indices(len(modes), 1)
    if not turns.any() or not len(a):
        return np.arange(len(modes))
    ways = _ways(modes[a], modes[b], turns)
    heights, _ = values_and_slopes(target, ways.reshape(-1, target.dim))
    heights = heights.reshape(ways.shape[:2]) - np.asarray(_jacobian(ways[..., turns]))
    lowest, lower = heights.min(axis=1), np.minimum(heights[:, 0], heights[:, -1])
    one = lowest >= lower - saddle
    graph = np.zeros((len(modes), len(modes)), bool)
    graph[a[one], b[one]] = True
    return csgraph.connected_components(graph, directed=False)[1]


def _ways(a: np.ndarray, b: np.ndarray, turns: np.ndarray, points: int = 33) -> np.ndarray:
    """Points (P, n, d) on the way from each of `a` (P, d) to its like in `b`."""
    share = np.linspace(0, 1, points)[:, None]
    ways = a[:, None] + share * (b - a)[:, None]
    angle = np.asarray(CIRCLE(a[:, turns]))
    turn = _wrapped(np.asarray(CIRCLE(b[:, turns])) - angle)
    there = np.clip(_wrapped(angle[:, None] + share * turn[:, None]), -END, END)
    ways[..., turns] = np.asarray(CIRCLE.inv(there))
    return ways


def _wrapped(angle):
    return (angle + np.pi) % (2 * np.pi) - np.pi


@jax.jit
def _jacobian(u: Array) -> Array:
    """log |dangle/du| (...,), of all angles (..., k) together."""
    return CIRCLE.log_abs_det_jacobian(u, CIRCLE(u)).sum(axis=-1)
