"""How log p − log q is spread, when densities cannot be drawn."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from markupsafe import Markup

from vi_compare import formatting
from vi_compare.report import palette, svg
from vi_compare.report.view import FitView

BINS = 60
# Ratios over more nats than WIDE are drawn on an axis that is linear up to LINEAR nats and
# logarithmic beyond, or the worst fit would leave nothing of the others.
WIDE, LINEAR = 200.0, 10.0
MOST_TICKS = 8
DECADES = 10.0 ** np.arange(1, 9)


def histogram(
    key: str, under: str, ratios: Sequence[tuple[FitView, np.ndarray]], axis: str
) -> Markup:
    """Histograms of log-ratios (n,), one outline a fit; the outermost bins hold what is beyond."""
    pooled = np.concatenate([r for _, r in ratios])
    low, high = np.quantile(pooled, [0.005, 0.995])
    # A fit that is the target has one ratio only; a hundredth of a nat is not worth a zoom.
    room = max(0.05 * (high - low), 0.5 if high - low < 0.01 else 0.0)
    wide = high - low > WIDE
    edges = _wide(low, high) if wide else np.linspace(low - room, high + room, BINS + 1)
    with svg.sheet(key, 3.1) as figure:
        ax = figure.subplots()
        if wide:
            _set_wide(ax, edges)
        ax.axvline(0, color=palette.MUTED, linewidth=0.8, linestyle=(0, (1.5, 2)))
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


def _wide(low: float, high: float) -> np.ndarray:
    """Edges of bins that are equally wide on the axis of `_set_wide`."""
    low, high = np.arcsinh(np.array([low, high]) / LINEAR)
    return LINEAR * np.sinh(np.linspace(low - 0.3, high + 0.3, BINS + 1))


def _set_wide(ax, edges: np.ndarray) -> None:
    ax.set_xscale("asinh", linear_width=LINEAR)
    ticks = np.concatenate([-DECADES[::-1], [0.0], DECADES])
    ticks = ticks[(ticks > edges[0]) & (ticks < edges[-1])]
    # Every other decade where all would run into each other.
    ticks = ticks if len(ticks) < MOST_TICKS else ticks[np.log10(abs(ticks) + 1e-9) % 2 < 1]
    ax.set_xticks(ticks, [formatting.fixed(tick, 0) for tick in ticks])
    ax.set_xticks([], minor=True)


def _told(fit: FitView, ratio: np.ndarray) -> str:
    low, middle, high = (formatting.fixed(x, 2) for x in np.quantile(ratio, [0.05, 0.5, 0.95]))
    return f"{fit.name} {middle}, {low} to {high}"
