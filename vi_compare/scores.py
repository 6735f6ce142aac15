"""log p, its gradient and its curvature at many points: compiled once, counted."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from vi_compare.batches import by_rows
from vi_compare.target import Target

# Rows of one compiled call. One shape serves a handful of paths and thousands of draws;
# enough rows to hide the cost of a call, few enough not to waste work on a handful. Where points
# are asked one by one the cost of a call is small beside theirs.
ROWS = 32


def _rows(target: Target, one_by_one: int = 8) -> int:
    return one_by_one if target.one_by_one else ROWS


class Scores:
    """log p of one target and its derivatives, on numpy arrays in float64.

    Attributes:
        compile_seconds: time of compiling; nothing where another `Scores` of the same target
            has done it.
        densities, gradients: evaluations of log p at one point so far; a curvature costs d
            gradients.
    """

    def __init__(self, target: Target):
        self.target, self.dim = target, target.dim
        self.densities = self.gradients = 0
        begin = time.perf_counter()
        self._compile()
        self.compile_seconds = time.perf_counter() - begin

    def _compile(self) -> None:
        here = np.zeros((_rows(self.target), self.dim), jnp.result_type(float))
        jax.block_until_ready((_both(self.target, here), _curvature_times(self.target, here, here)))

    def __call__(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """log p (n,) and gradients (n, d) at x (n, d).

        Where either is not a finite number, log p is −inf and the gradient 0.
        """
        log_p, gradients = values_and_slopes(self.target, x)
        self.densities += len(x)
        self.gradients += len(x)
        bad = ~(np.isfinite(log_p) & np.isfinite(gradients).all(axis=1))
        log_p[bad], gradients[bad] = -np.inf, 0.0
        return log_p, gradients

    def curvature(self, x: np.ndarray) -> np.ndarray:
        """−∇² log p (d, d) at x (d,), symmetric; perhaps not finite."""
        rows = _rows(self.target)
        here, eye = np.tile(x, (rows, 1)), np.eye(self.dim)
        here, eye = (a.astype(jnp.result_type(float)) for a in (here, eye))
        columns = by_rows(partial(_curvature_times, self.target, here), eye, rows).astype(float)
        self.gradients += self.dim
        return -(columns + columns.T) / 2


class PointScores(Scores):
    """`Scores` for a search that asks for one point after another.

    A call costs one evaluation, not `ROWS` of them. Values that are not finite are returned as
    they are, so that a search can tell where it ended.
    """

    def _compile(self) -> None:
        here = jax.ShapeDtypeStruct((self.dim,), jnp.result_type(float))
        log_p = self.target.log_density
        self._one = jax.jit(jax.value_and_grad(log_p)).lower(here).compile()
        self._hessian = _hessian.lower(self.target, here).compile()

    def at(self, x: np.ndarray) -> tuple[float, np.ndarray]:
        """log p () and its gradient (d,) at one point x (d,), finite or not."""
        self.densities += 1
        self.gradients += 1
        log_p, gradient = self._one(jnp.asarray(x, jnp.result_type(float)))
        return float(log_p), np.asarray(gradient, float)

    def curvature(self, x: np.ndarray) -> np.ndarray:
        """−∇² log p (d, d) at x (d,); perhaps not finite."""
        self.gradients += self.dim
        return -np.asarray(self._hessian(jnp.asarray(x, jnp.result_type(float))), float)


def values_and_slopes(target: Target, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """log p (n,) and its gradients (n, d) at x (n, d) as they come, finite or not."""
    rows = np.asarray(x, jnp.result_type(float))
    log_p, gradients = by_rows(partial(_both, target), rows, _rows(target))
    return log_p.astype(float), gradients.astype(float)


@partial(jax.jit, static_argnums=0)
def _both(target: Target, x: Array) -> tuple[Array, Array]:
    return target.over_points(jax.value_and_grad(target.log_density))(x)


@partial(jax.jit, static_argnums=0)
def _curvature_times(target: Target, x: Array, v: Array) -> Array:
    """∇² log p(x) v (n, d), row by row of x and v (n, d)."""
    return jax.vmap(partial(_turned, jax.grad(target.log_density)))(x, v)


@partial(jax.jit, static_argnums=0)
def _hessian(target: Target, x: Array) -> Array:
    """∇² log p(x) (d, d) at x (d,)."""
    times = partial(_turned, jax.grad(target.log_density))
    return jax.vmap(times, (None, 0), -1)(x, jnp.eye(target.dim, dtype=x.dtype))


def _turned(gradient: Callable[[Array], Array], x: Array, v: Array) -> Array:
    """The derivative (d,) of the gradient at x (d,) along v (d,)."""
    try:
        return jax.jvp(gradient, (x,), (v,))[1]
    except TypeError:
        # A density with a gradient rule of its own, as that of an ODE solver, has no forward
        # mode. Backwards through it twice is as exact and takes longer.
        return jax.grad(lambda x: gradient(x) @ v)(x)
