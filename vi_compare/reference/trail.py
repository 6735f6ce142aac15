"""The way that a population of chains went: where it was, and how wide, block by block."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from vi_compare.estimate import Coordinates, margins

LEVELS = (0.05, 0.5, 0.95)


@dataclass(frozen=True)
class Trail:
    """Quantiles of every margin of a population of chains, on its way.

    Attributes:
        iterations: that each chain had made, (k,); ascending.
        labels: of the margins, m of them.
        quantiles: at `LEVELS`, (k, m, 3).
        errors: their standard errors, (k, m, 3).
    """

    iterations: np.ndarray
    labels: tuple[str, ...]
    quantiles: np.ndarray
    errors: np.ndarray

    @classmethod
    def of(
        cls,
        iterations: Sequence[int],
        values: Sequence[Mapping[str, Any]],
        weights: Sequence[np.ndarray],
        chains: float,
        coords: Mapping[str, Coordinates] | None = None,
    ) -> Trail:
        """
        Args:
            values: {site: (n, ...)} of each block.
            weights: of its draws, (n,) each.
            chains: number that each block's draws are taken to be worth; a chain remembers
                within a block, so that it counts once.
            coords: {site: coordinates of its axes} of those whose entries have names.
        """
        found = [margins(by, coords) for by in values]
        labels = tuple(label for label in found[-1] if all(label in by for by in found))
        table = [np.stack([by[label] for label in labels], axis=1) for by in found]
        bands = np.stack([_bands(x, w, chains) for x, w in zip(table, weights, strict=True)])
        low, middle, high = np.moveaxis(bands, 1, 0)
        return cls(np.asarray(iterations), labels, middle, (high - low) / 2)


def in_blocks(values: Mapping[str, Any], way: Sequence[np.ndarray]) -> list[dict[str, np.ndarray]]:
    """Values {site: (rows, ...)} at the positions (chains, n, d) of each block, which follow one
    another, block by block."""
    cuts = np.cumsum([len(u) * u.shape[1] for u in way])[:-1]
    parts = zip(*(np.split(np.asarray(a), cuts) for a in values.values()), strict=True)
    return [dict(zip(values, own, strict=True)) for own in parts]


def _bands(x: np.ndarray, weights: np.ndarray, chains: float) -> np.ndarray:
    """Quantiles of x (n, m) one standard error of their rank down, themselves, and one up,
    (3, m, levels)."""
    at = np.asarray(LEVELS)
    step = np.sqrt(at * (1 - at) / chains)
    levels = np.clip([at - step, at, at + step], 0.0, 1.0)
    # Weights need a quantile that is one of the draws.
    found = np.quantile(x, levels.ravel(), axis=0, weights=weights, method="inverted_cdf")
    return found.reshape(*levels.shape, -1).swapaxes(1, 2)
