"""Many draws through a compiled function, a fixed number at a time."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
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
    another number of draws costs no other compilation. Leaves of `xs` (n, ...) and of the
    result are arrays.
    """

    def run(xs: Any) -> Any:
        if any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves((held, xs))):
            return function(*held, xs)  # inside another compiled function: all at once
        return jax.tree.map(jnp.asarray, by_rows(partial(function, *held), xs, BATCH))

    return run


def by_rows(function: Callable, xs: Any, size: int) -> Any:
    """``function(xs)`` by `size` rows at a time, as numpy arrays; the last time it is filled
    up with copies of its first row."""
    leaves, structure = jax.tree.flatten(xs)
    rows = [np.asarray(leaf) for leaf in leaves]
    out = []
    for start in range(0, len(rows[0]), size):
        pieces = [a[start : start + size] for a in rows]
        n = len(pieces[0])
        found = function(jax.tree.unflatten(structure, [_filled(a, size) for a in pieces]))
        out.append(jax.tree.map(lambda a: np.asarray(a)[:n], found))  # noqa: B023
    return jax.tree.map(lambda *parts: np.concatenate(parts), *out)


def _filled(a: np.ndarray, size: int) -> np.ndarray:
    if len(a) == size:
        return a
    full = np.empty((size, *a.shape[1:]), a.dtype)
    full[: len(a)], full[len(a) :] = a, a[0]
    return full
