"""How log p − log q is spread, when densities cannot be drawn."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from markupsafe import Markup

from vi_compare import numbers
from vi_compare.report import palette, svg
from vi_compare.report.view import FitView

BINS = 60


def histogram(
    key: str, under: str, ratios: Sequence[tuple[FitView, np.ndarray]], axis: str
) -> Markup:
    """Histograms of log-ratios (n,), one outline a fit; the outermost bins hold what is beyond."""
    pooled = np.concatenate([r for _, r in ratios])
    low, high = np.quantile(pooled, [0.005, 0.995])
    # A fit that is the target has one ratio only; a hundredth of a nat is not worth a zoom.
    room = max(0.05 * (high - low), 0.5 if high - low < 0.01 else 0.0)
    edges = np.linspace(low - room, high + room, BINS + 1)
    with svg.sheet(key, 3.1) as figure:
        ax = figure.subplots()
        ax.axvline(0, color=palette.MUTED, linewidth=0.8, linestyle=(0, (1.5, 2)))
        for fit, ratio in ratios:
            counts, _ = np.histogram(np.clip(ratio, edges[0], edges[-1]), edges)
            heights = counts / (len(ratio) * np.diff(edges))
            line = ax.stairs(
                heights, edges, color=fit.style.colour, linestyle=fit.style.line, linewidth=1.5
            )
            svg.mine(line, fit.style)
        ax.set(xlabel=axis, ylabel=f"density under {under}", xlim=(edges[0], edges[-1]))
        told = "; ".join(_told(fit, ratio) for fit, ratio in ratios)
        return svg.inline(
            figure, key, f"Log density ratio under {under}",
            f"{axis} over draws of {under}, median and 5 % to 95 %: {told}.",
        )  # fmt: skip


def _told(fit: FitView, ratio: np.ndarray) -> str:
    low, middle, high = (numbers.fixed(x, 2) for x in np.quantile(ratio, [0.05, 0.5, 0.95]))
    return f"{fit.name} {middle}, {low} to {high}"
