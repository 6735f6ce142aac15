"""Mass per mode: the target's as a bar, each fit's as a marker on a stalk."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup

from vi_compare import formatting
from vi_compare.report import svg
from vi_compare.report.palette import Colour
from vi_compare.report.view import FitView, Mode, short


def masses(modes: Sequence[Mode], fits: Sequence[FitView], step: float = 0.17) -> Markup:
    """One group of stalks for each mode, the first on top; fits stand `step` apart, or less
    where they are many, and modes 1 apart."""
    height = 0.75 + len(modes) * (0.18 + 0.14 * len(fits))
    with svg.sheet("basins", height) as figure:
        ax = figure.subplots()
        most = max(max(mode.mass, *(mode.fits[fit.key] for fit in fits)) for mode in modes)
        step = min(step, 0.7 / max(1, len(fits)))
        half = step * (len(fits) - 1) / 2
        for row, mode in enumerate(modes):
            ax.vlines(
                mode.mass, row - half - 0.14, row + half + 0.14, color=Colour.INK, linewidth=2
            )
            for k, fit in enumerate(fits):
                y, share = row - half + k * step, mode.fits[fit.key]
                (stalk,) = ax.plot(
                    [0, share], [y, y], color=fit.style.colour, linewidth=1, alpha=0.6
                )
                (head,) = ax.plot(
                    [share], [y], fit.style.marker, color=fit.style.colour, markersize=5.5
                )
                svg.mine(stalk, fit.style)
                svg.mine(head, fit.style)
        ax.set_yticks(range(len(modes)), [short(mode.short) for mode in modes])
        ax.tick_params(axis="y", length=0)
        ax.spines["left"].set_visible(False)
        ax.set(xlabel="share of the draws whose ascent ends at the mode", xlim=(-0.02 * most, None))
        ax.set_ylim(len(modes) - 0.5, -0.5)
        return svg.inline(
            figure, "basins", "Mass in the basin of every mode",
            "Share of the draws in the basin of every mode. "
            + " ".join(_told(mode, fits) for mode in modes),
        )  # fmt: skip


def _told(mode: Mode, fits: Sequence[FitView]) -> str:
    shares = ", ".join(f"{fit.name} {formatting.percent(mode.fits[fit.key])}" for fit in fits)
    return f"{mode.short}: target {formatting.percent(mode.mass)}, {shares}."
