"""Points with weights that serve for every q of a path at once: ∫ f q du ≈ Σ exp(log_v) f q."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from jax import Array

from vi_compare.nodes import Line
from vi_compare.randomness import generator


@dataclass(frozen=True)
class Lot:
    """Points in no order.

    Attributes:
        u: (n, d).
        log_v: (n,).
        log_p: (n,) of the target, normalised, where it is known.
        sizes: how many came from which density, one after another; () for a grid.
    """

    u: np.ndarray
    log_v: np.ndarray
    log_p: np.ndarray | None = None
    sizes: tuple[int, ...] = ()

    @classmethod
    def of_line(cls, rule: Line, key: Array) -> Lot:
        """The nodes, shuffled, so that any first few of them are everywhere."""
        order = generator(key).permutation(len(rule.u))
        u, log_v, log_p = (np.asarray(x)[order] for x in (rule.u, rule.log_v, rule.log_p))
        return cls(u, log_v, log_p)

    @classmethod
    def of_draws(cls, sets: Sequence[np.ndarray], densities: Sequence[Callable]) -> Lot:
        """Draws (m, d) of some densities, each weighted by one over the density of the lot
        (Veach and Guibas 1995, the balance heuristic)."""
        u = np.concatenate(sets)
        counted = zip(sets, densities, strict=True)
        all_of = [np.log(len(x)) + log_q(u) for x, log_q in counted]
        return cls(u, -np.logaddexp.reduce(all_of), sizes=tuple(map(len, sets)))

    def error(self, terms: np.ndarray) -> float:
        """Standard error of Σ terms (n,), each with its weight in it; a grid has none."""
        parts = np.split(terms, np.cumsum(self.sizes)[:-1]) if self.sizes else []
        return float(np.sqrt(sum(len(x) * x.var() for x in parts)))
