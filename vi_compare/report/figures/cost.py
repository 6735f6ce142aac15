"""What each fit took against how good it is."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup

from vi_compare import formatting
from vi_compare.report import svg
from vi_compare.report.palette import Colour
from vi_compare.report.view import FitView


def against_seconds(
    points: Sequence[tuple[FitView, float, float, float]], what: str, *, log: bool
) -> Markup:
    """One marker a fit: seconds (> 0) on a log scale against a value with its error.

    `points` are (fit, seconds, value, error). `log` draws the value on a log scale too;
    then every value must be positive.
    """
    with svg.sheet("cost", 2.9) as figure:
        ax = figure.subplots()
        for fit, seconds, value, error in points:
            # On a log scale an error bar cannot reach below zero.
            low = max(value - error, value / 2) if log else value - error
            (bar,) = ax.plot(
                [seconds, seconds], [low, value + error], color=fit.style.colour, linewidth=1.2
            )
            (point,) = ax.plot(
                [seconds], [value], fit.style.marker, color=fit.style.colour, markersize=7
            )
            for artist in (bar, point):
                svg.mine(artist, fit.style)
        ax.set_xscale("log")
        svg.plain_ticks(ax.xaxis)
        if log:
            ax.set_yscale("log")
            svg.plain_ticks(ax.yaxis)
        ax.set(xlabel="seconds, compilation included", ylabel=what)
        ax.grid(color=Colour.LINE, linewidth=0.4, alpha=0.6)
        ax.margins(0.15, 0.2)
        said = ", ".join(
            f"{fit.name} {formatting.plain(value)} after {formatting.seconds(seconds)} s"
            for fit, seconds, value, _ in points
        )
        return svg.inline(
            figure, "cost", f"Seconds against {what}", f"One marker a fit: {said}."
        )  # fmt: skip
