"""p and q on the grid, for targets on the line: where each divergence is paid."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from vi_compare.report.view import Mode, View

# Densities below e^-700 are zero in float64.
LOWEST = -700.0


@dataclass(frozen=True)
class Curves:
    """Log densities over u on a grid.

    Attributes:
        x: (g,) grid over u.
        log_p: (g,) normalised log density of the target.
        log_q: {fit: (g,)} of the fits that have one.
        normalised: how p came to be normalised, in words.
    """

    x: np.ndarray
    log_p: np.ndarray
    log_q: dict[str, np.ndarray]
    normalised: str

    @classmethod
    def of(cls, view: View) -> Curves | None:
        if "curves" not in view.draws.children:
            return None
        data = view.draws["curves"]
        x, log_p = np.asarray(data["u"].values), np.asarray(data["log_p"].values, dtype=float)
        if not np.isfinite(log_p).any():
            return None
        log_z, how = view.log_z, "exact"
        if log_z is None:
            top = np.nanmax(log_p)
            log_z = top + float(
                np.log(np.trapezoid(np.exp(np.nan_to_num(log_p, nan=LOWEST) - top), x))
            )
            how = "normalised by quadrature over the range shown"
        log_q = {
            str(name): np.asarray(q, dtype=float)
            for name, q in zip(data["fit"].values, data["log_q"].values, strict=True)
        }
        kept = {name: _floored(q) for name, q in log_q.items() if np.isfinite(q).any()}
        return cls(x, _floored(log_p - log_z), kept, how)

    @property
    def p(self) -> np.ndarray:
        return np.exp(self.log_p)

    def integral(self, y: np.ndarray, start: int = 0, stop: int | None = None) -> float:
        """Of y (g,) over the grid from point `start` to point `stop`, both included."""
        piece = slice(start, None if stop is None else stop + 1)
        return float(np.trapezoid(y[piece], self.x[piece]))

    def regions(self, modes: tuple[Mode, ...]) -> list[tuple[Mode, int, int]]:
        """Basins from left to right, as (mode, first, last) grid points.

        They meet at the minima of log p between neighbouring modes.
        """
        ordered = sorted(modes, key=lambda m: float(m.location[0]))
        peaks = [int(np.argmin(abs(self.x - m.location[0]))) for m in ordered]
        cuts = [a + int(np.argmin(self.log_p[a : b + 1])) for a, b in pairwise(peaks)]
        return list(zip(ordered, [0, *cuts], [*cuts, len(self.x) - 1], strict=True))


def _floored(log_density: np.ndarray) -> np.ndarray:
    return np.maximum(np.nan_to_num(log_density, nan=LOWEST, neginf=LOWEST, posinf=-LOWEST), LOWEST)


@dataclass(frozen=True)
class Penalty:
    """KL(a‖b) point by point: `paid` ≥ 0 and `usual`, (g,), with the same total.

    a log(a/b) − a + b is what each point adds once both are densities; a log(a/b)
    alone takes with one hand what it gives with the other.
    """

    paid: np.ndarray
    usual: np.ndarray

    @classmethod
    def of(cls, log_a: np.ndarray, log_b: np.ndarray) -> Penalty:
        a, b = np.exp(log_a), np.exp(log_b)
        usual = a * (log_a - log_b)
        return cls(np.maximum(usual - a + b, 0.0), usual)
