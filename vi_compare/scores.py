"""log p, its gradient and its curvature at many points: compiled once, counted."""

from __future__ import annotations

import time

import jax
import jax.numpy as jnp
import numpy as np

from vi_compare.target import Target

# Rows of one compiled call. One shape serves a handful of paths and thousands of draws;
# enough rows to hide the cost of a call, few enough not to waste work on a handful.
ROWS = 32


class Scores:
    """Compiled functions of one target, on numpy arrays in float64.

    Attributes:
        compile_seconds: what compiling took.
        densities, gradients: of log p at one point, asked for so far; a curvature costs d
            gradients.
    """

    def __init__(self, target: Target):
        self.dim = target.dim
        self.densities = self.gradients = 0
        self._dtype = jnp.result_type(float)
        rows = jax.ShapeDtypeStruct((ROWS, self.dim), self._dtype)
        slope = jax.grad(target.log_density)
        bend = lambda x, v: jax.jvp(slope, (x,), (v,))[1]
        begin = time.perf_counter()
        both = jax.vmap(jax.value_and_grad(target.log_density))
        self._both = jax.jit(both).lower(rows).compile()
        self._bend = jax.jit(jax.vmap(bend)).lower(rows, rows).compile()
        self.compile_seconds = time.perf_counter() - begin

    def __call__(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """log p (n,) and gradients (n, d) at x (n, d).

        Where either is not a finite number, log p is −inf and the gradient 0.
        """
        log_p, slope = np.empty(len(x)), np.empty(x.shape)
        for begin in range(0, len(x), ROWS):
            piece = slice(begin, begin + ROWS)
            some = x[piece]
            value, gradient = self._both(self._padded(some))
            log_p[piece] = np.asarray(value)[: len(some)]
            slope[piece] = np.asarray(gradient)[: len(some)]
        self.densities += len(x)
        self.gradients += len(x)
        bad = ~(np.isfinite(log_p) & np.isfinite(slope).all(axis=1))
        log_p[bad], slope[bad] = -np.inf, 0.0
        return log_p, slope

    def curvature(self, x: np.ndarray) -> np.ndarray:
        """−∇² log p (d, d) at x (d,), symmetric; perhaps not finite."""
        columns = np.empty((self.dim, self.dim))
        eye, here = np.eye(self.dim), np.tile(x, (ROWS, 1)).astype(self._dtype)
        for begin in range(0, self.dim, ROWS):
            some = eye[begin : begin + ROWS]
            bent = np.asarray(self._bend(here, self._padded(some)))
            columns[begin : begin + ROWS] = -bent[: len(some)]
        self.gradients += self.dim
        return (columns + columns.T) / 2

    def _padded(self, some: np.ndarray) -> np.ndarray:
        full = np.empty((ROWS, self.dim), self._dtype)
        full[: len(some)], full[len(some) :] = some, some[0]
        return full
