"""How log p − log q is spread, when densities cannot be drawn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup

from vi_compare import formatting
from vi_compare.report import svg
from vi_compare.report.palette import Colour
from vi_compare.report.view import FitView


@dataclass(frozen=True)
class Bins:
    """How many bins, and on which axis.

    Attributes:
        n: bins, equally wide on the axis.
        wide: nats; ratios that are spread further are drawn on an axis that is linear near zero
            and logarithmic beyond, or the worst fit would leave nothing of the others.
        linear: nats up to which such an axis is linear.
    """

    n: int = 60
    wide: float = 200.0
    linear: float = 10.0

    def even(self, low: float, high: float) -> np.ndarray:
        """(n + 1,) edges on a linear axis."""
        # A fit that is the target has one ratio only; a hundredth of a nat is not worth a zoom.
        room = max(0.05 * (high - low), 0.5 if high - low < 0.01 else 0.0)
        return np.linspace(low - room, high + room, self.n + 1)

    def folded(self, low: float, high: float) -> np.ndarray:
        """(n + 1,) edges on an axis that is logarithmic beyond `linear`."""
        low, high = np.arcsinh(np.array([low, high]) / self.linear)
        return self.linear * np.sinh(np.linspace(low - 0.3, high + 0.3, self.n + 1))


def histogram(
    key: str,
    under: str,
    ratios: Sequence[tuple[FitView, np.ndarray]],
    axis: str,
    bins: Bins = Bins(),
) -> Markup:
    """Histograms of log-density ratios (n,), one outline a fit; the outermost bins hold what
    lies beyond them."""
    pooled = np.concatenate([r for _, r in ratios])
    low, high = np.quantile(pooled, [0.005, 0.995])
    wide = high - low > bins.wide
    edges = bins.folded(low, high) if wide else bins.even(low, high)
    with svg.sheet(key, 3.1) as figure:
        ax = figure.subplots()
        if wide:
            _fold(ax, edges, bins.linear)
        ax.axvline(0, color=Colour.MUTED, linewidth=0.8, linestyle=(0, (1.5, 2)))
        for fit, ratio in ratios:
            counts, _ = np.histogram(np.clip(ratio, edges[0], edges[-1]), edges)
            line = ax.stairs(
                100 * counts / len(ratio),
                edges,
                color=fit.style.colour,
                linestyle=fit.style.line,
                linewidth=1.5,
            )
            svg.mine(line, fit.style)
        ax.set(xlabel=axis, ylabel=f"% of the draws of {under}", xlim=(edges[0], edges[-1]))
        told = "; ".join(_told(fit, ratio) for fit, ratio in ratios)
        return svg.inline(
            figure, key, f"Log density ratio under {under}",
            f"{axis} over draws of {under}, median and 5 % to 95 %: {told}.",
        )  # fmt: skip


def _fold(ax, edges: np.ndarray, linear: float, most: int = 8) -> None:
    """An axis that is logarithmic beyond `linear` nats, with a tick at every decade, or at every
    other one where there would be `most` ticks or more."""
    ax.set_xscale("asinh", linear_width=linear)
    decades = 10.0 ** np.arange(1, 9)
    ticks = np.concatenate([-decades[::-1], [0.0], decades])
    ticks = ticks[(ticks > edges[0]) & (ticks < edges[-1])]
    ticks = ticks if len(ticks) < most else ticks[np.log10(abs(ticks) + 1e-9) % 2 < 1]
    ax.set_xticks(ticks, [formatting.fixed(tick, 0) for tick in ticks])
    ax.set_xticks([], minor=True)


def _told(fit: FitView, ratio: np.ndarray) -> str:
    low, middle, high = (formatting.fixed(x, 2) for x in np.quantile(ratio, [0.05, 0.5, 0.95]))
    return f"{fit.name} {middle}, {low} to {high}"
