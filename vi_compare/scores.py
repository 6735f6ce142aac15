"""log p, its gradient and its curvature at many points: compiled once, counted."""

from __future__ import annotations

import time
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from vi_compare.batches import by_rows
from vi_compare.target import Target

# Rows of one compiled call. One shape serves a handful of paths and thousands of draws;
# enough rows to hide the cost of a call, few enough not to waste work on a handful.
ROWS = 32


class Scores:
    """log p of one target and its derivatives, on numpy arrays in float64.

    Attributes:
        compile_seconds: what compiling took; nothing where another `Scores` of the same
            target has done it.
        densities, gradients: of log p at one point, asked for so far; a curvature costs d
            gradients.
    """

    def __init__(self, target: Target):
        self.target, self.dim = target, target.dim
        self.densities = self.gradients = 0
        here = np.zeros((ROWS, self.dim), jnp.result_type(float))
        begin = time.perf_counter()
        jax.block_until_ready((_both(target, here), _bend(target, here, here)))
        self.compile_seconds = time.perf_counter() - begin

    def __call__(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """log p (n,) and gradients (n, d) at x (n, d).

        Where either is not a finite number, log p is −inf and the gradient 0.
        """
        log_p, slope = values_and_slopes(self.target, x)
        self.densities += len(x)
        self.gradients += len(x)
        bad = ~(np.isfinite(log_p) & np.isfinite(slope).all(axis=1))
        log_p[bad], slope[bad] = -np.inf, 0.0
        return log_p, slope

    def curvature(self, x: np.ndarray) -> np.ndarray:
        """−∇² log p (d, d) at x (d,), symmetric; perhaps not finite."""
        here, eye = np.tile(x, (ROWS, 1)), np.eye(self.dim)
        here, eye = (a.astype(jnp.result_type(float)) for a in (here, eye))
        columns = by_rows(partial(_bend, self.target, here), eye, ROWS).astype(float)
        self.gradients += self.dim
        return -(columns + columns.T) / 2


def values_and_slopes(target: Target, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """log p (n,) and its gradients (n, d) at x (n, d) as they come, finite or not."""
    rows = np.asarray(x, jnp.result_type(float))
    log_p, slope = by_rows(partial(_both, target), rows, ROWS)
    return log_p.astype(float), slope.astype(float)


@partial(jax.jit, static_argnums=0)
def _both(target: Target, x: Array) -> tuple[Array, Array]:
    return jax.vmap(jax.value_and_grad(target.log_density))(x)


@partial(jax.jit, static_argnums=0)
def _bend(target: Target, x: Array, v: Array) -> Array:
    slope = jax.grad(target.log_density)
    return jax.vmap(lambda x, v: jax.jvp(slope, (x,), (v,))[1])(x, v)
