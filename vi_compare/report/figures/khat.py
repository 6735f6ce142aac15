"""Pareto k̂ of every fit, over zones of what the weights can still do."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup

from vi_compare import formatting
from vi_compare.report import svg
from vi_compare.report.palette import Colour
from vi_compare.report.view import FitView


def shapes(readings: Sequence[tuple[FitView, float, float]], limit: float) -> Markup:
    """One row a fit, with its k̂ and standard error; up to `limit` the weights can be used."""
    values = [khat for _, khat, _ in readings]
    low, high = min([-0.5, *values]), max([1.0, *values])
    room = 0.12 * (high - low)
    margins = (0.1, 0.44, 0.1, 0.06)  # nothing stands beside the rows
    with svg.sheet("khat", 0.75 + 0.3 * len(readings), margins) as figure:
        ax = figure.subplots()
        edges = (low - room, 0.5, limit, high + 2 * room)
        for left, right, colour in zip(
            edges, edges[1:], (Colour.GOOD, Colour.NEAR, Colour.BAD), strict=False
        ):
            ax.axvspan(left, right, color=colour, linewidth=0)
        ax.axvline(limit, color=Colour.MUTED, linewidth=1, linestyle=(0, (3, 2)))
        for row, (fit, khat, error) in enumerate(readings):
            (bar,) = ax.plot(
                [khat - error, khat + error],
                [row, row],
                color=fit.style.colour,
                linewidth=1.2,
            )
            (point,) = ax.plot(
                [khat], [row], fit.style.marker, color=fit.style.colour, markersize=6.5
            )
            text = ax.annotate(
                formatting.fixed(khat, 2), (khat + error, row), (7, 0),
                textcoords="offset points", va="center", fontsize=8,
            )  # fmt: skip
            for artist in (bar, point, text):
                svg.mine(artist, fit.style)
        ax.set(xlabel="Pareto k̂ of p/q on draws of q", xlim=(edges[0], edges[-1]), yticks=[])
        ax.set_ylim(len(readings) - 0.5, -0.5)
        ax.spines["left"].set_visible(False)
        names = ", ".join(f"{fit.name} {formatting.fixed(khat, 2)}" for fit, khat, _ in readings)
        return svg.inline(
            figure, "khat", "Pareto k-hat of every fit",
            f"One marker a fit, with one standard error, over zones up to 0.5, up to "
            f"{formatting.fixed(limit, 2)} and beyond: {names}.",
        )  # fmt: skip
