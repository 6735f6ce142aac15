"""Two samples on the line, compared by their distribution functions F and G."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from vi_compare.evidence import Draws, Evidence, Margins


class Gap(NamedTuple):
    """F − G between two samples x (n,) and y (m,), from one sort of both together.

    Attributes:
        grid: (n + m,) all points in order.
        order: (n + m,) where each came from in (x, y).
        height: (n + m,) F − G from each point to the next.
        n: size of x.
    """

    grid: np.ndarray
    order: np.ndarray
    height: np.ndarray
    n: int

    @classmethod
    def between(cls, x: np.ndarray, y: np.ndarray) -> Gap:
        pooled = np.concatenate([x, y])
        order = np.argsort(pooled)
        jumps = np.where(order < x.size, 1 / x.size, -1 / y.size)
        return cls(pooled[order], order, np.cumsum(jumps), x.size)

    def wasserstein(self) -> float:
        """W₁ = ∫ |F − G|, in the units of the draws."""
        return float(np.abs(self.height[:-1]) @ np.diff(self.grid))

    def potential(self) -> tuple[np.ndarray, np.ndarray]:
        """f at x (n,) and at y (m,), 1-Lipschitz with mean f(x) − mean f(y) = W₁.

        By Kantorovich's duality no other such f has more; where F ≠ G, W₁ errs as its mean does.
        """
        climb = np.cumsum(-np.sign(self.height[:-1]) * np.diff(self.grid))
        at = np.empty(self.grid.size)
        at[self.order] = np.concatenate([[0.0], climb])
        return at[: self.n], at[self.n :]

    def kolmogorov(self) -> tuple[float, float]:
        """sup |F − G|, and where."""
        # Between equal points F − G has not yet made all its jumps.
        whole = np.append(np.diff(self.grid) > 0, True)
        size = np.abs(self.height) * whole
        worst = int(size.argmax())
        return float(size[worst]), float(self.grid[worst])


def evenly(draws: Draws, most: int) -> np.ndarray:
    """Indices of at most `most` draws, as far apart as can be, as many of every chain."""
    chains = max(1, draws.chains)
    length = len(draws) // chains
    step = max(1, -(-length // max(1, most // chains)))
    kept = np.arange(0, length, step)
    return (np.arange(chains)[:, None] * length + kept).ravel()


def few_margins(evidence: Evidence, most: int = 4_000_000) -> Margins:
    """Every margin under each set, with fewer draws the more margins there are.

    Args:
        most: numbers that are sorted for one fit: all 20,000 draws of 200 margins, fewer of more.
    """
    sets = (evidence.q, evidence.test, evidence.floor)
    return Margins(
        *(_few(by, draws, most) for by, draws in zip(evidence.margins, sets, strict=True) if draws)
    )


def _few(by: dict[str, np.ndarray], draws: Draws, most: int) -> dict[str, np.ndarray]:
    kept = evenly(draws, most // max(1, len(by)))
    return by if kept.size == len(draws) else {label: x[kept] for label, x in by.items()}
