"""What each fit took against how good it is."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup

from vi_compare import formatting
from vi_compare.report import palette, svg
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
        if log:
            ax.set_yscale("log")
        _plain_ticks(ax, log)
        ax.set(xlabel="seconds, compilation included", ylabel=what)
        ax.grid(color=palette.LINE, linewidth=0.4, alpha=0.6)
        ax.margins(0.15, 0.2)
        said = ", ".join(
            f"{fit.name} {formatting.plain(value)} after {formatting.seconds(seconds)} s"
            for fit, seconds, value, _ in points
        )
        return svg.inline(
            figure, "cost", f"Seconds against {what}", f"One marker a fit: {said}."
        )  # fmt: skip


def _plain_ticks(ax, log: bool) -> None:
    """1, 2, 5, 10 instead of powers of ten: the page has no mathematics in figures."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    plain = FuncFormatter(lambda value, _: f"{value:g}")
    for axis in (ax.xaxis, ax.yaxis) if log else (ax.xaxis,):
        axis.set_major_locator(LogLocator(subs=(1, 2, 5), numticks=9))
        axis.set_major_formatter(plain)
        axis.set_minor_formatter(NullFormatter())
