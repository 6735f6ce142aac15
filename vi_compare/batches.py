"""Many draws through a compiled function, a fixed number at a time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

# Large enough to keep the processor busy, small enough that a 1,600-dimensional model
# stays in memory; the usual numbers of draws are multiples of it.
BATCH = 2000


def in_batches(function: Callable, *held: Any) -> Callable:
    """``xs -> function(*held, xs)`` for any number of rows, `BATCH` of them at a time.

    `function` must be compiled and map rows to rows. It sees one shape only, so that
    another number of draws costs no other compilation; the last batch is filled up with
    copies of its first row. Leaves of `xs` (n, ...) and of the result are arrays.
    """

    def run(xs: Any) -> Any:
        if any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves((held, xs))):
            return function(*held, xs)  # inside another compiled function: all at once
        rows = jax.tree.map(np.asarray, xs)
        n = len(jax.tree.leaves(rows)[0])
        out = []
        for start in range(0, n, BATCH):
            piece = jax.tree.map(lambda a: a[start : start + BATCH], rows)  # noqa: B023
            size = len(jax.tree.leaves(piece)[0])
            full = jax.tree.map(lambda a: _filled(a, size), piece)  # noqa: B023
            out.append(jax.tree.map(lambda a: np.asarray(a)[:size], function(*held, full)))  # noqa: B023
        return jax.tree.map(lambda *parts: jnp.asarray(np.concatenate(parts)), *out)

    return run


def _filled(a: np.ndarray, size: int) -> np.ndarray:
    return np.concatenate([a, np.repeat(a[:1], BATCH - size, axis=0)]) if size < BATCH else a
