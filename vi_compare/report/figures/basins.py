"""Mass per mode: the target's as a bar, each fit's as a marker on a stalk."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup

from vi_compare.report import palette, svg
from vi_compare.report.view import FitView, Mode

STEP = 0.17  # between fits, where modes are 1 apart


def masses(modes: Sequence[Mode], fits: Sequence[FitView]) -> Markup:
    """One group of stalks for each mode, the first on top."""
    height = 0.75 + len(modes) * (0.18 + 0.14 * len(fits))
    with svg.sheet("basins", height) as figure:
        ax = figure.subplots()
        half = STEP * (len(fits) - 1) / 2
        step = min(STEP, 0.7 / max(1, len(fits)))
        half = step * (len(fits) - 1) / 2
        for row, mode in enumerate(modes):
            ax.vlines(
                mode.mass, row - half - 0.14, row + half + 0.14, color=palette.INK, linewidth=2
            )
            for k, fit in enumerate(fits):
                y, share = row - half + k * step, mode.fits[fit.name]
                (stalk,) = ax.plot(
                    [0, share], [y, y], color=fit.style.colour, linewidth=1, alpha=0.6
                )
                (head,) = ax.plot(
                    [share], [y], fit.style.marker, color=fit.style.colour, markersize=5.5
                )
                svg.mine(stalk, fit.style)
                svg.mine(head, fit.style)
        ax.set_yticks(range(len(modes)), [_short(mode.short) for mode in modes])
        ax.tick_params(axis="y", length=0)
        ax.spines["left"].set_visible(False)
        ax.set(xlabel="share of the draws whose ascent ends at the mode", xlim=(-0.01, None))
        ax.set_ylim(len(modes) - 0.5, -0.5)
        return svg.inline(
            figure, "basins", "Mass in the basin of every mode",
            "For each mode of the target, the share of the target's draws in its basin as a "
            "vertical bar, and that of every fit as a marker.",
        )  # fmt: skip


def _short(name: str) -> str:
    return name if len(name) <= 24 else f"{name[:23]}…"
