"""How wide populations of chains were on their way, against the target and the fits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup

from vi_compare import formatting
from vi_compare.report import svg
from vi_compare.report.palette import Colour
from vi_compare.report.view import FitView


@dataclass(frozen=True)
class Way:
    """The length of one margin's 90 % interval, as one population of chains went on.

    Attributes:
        iterations: (k,), ascending.
        length, error: ÷ the target's, (k,) each.
    """

    iterations: np.ndarray
    length: np.ndarray
    error: np.ndarray


def lengths(
    key: str,
    label: str,
    sides: Mapping[str, Way],
    fits: Sequence[tuple[FitView, Way]],
    last: float,
) -> Markup:
    """Lengths over iterations, on a logarithmic axis; the target is at 1.

    Args:
        sides: {"inside", "outside": their way}; none where there are no such chains.
        fits: each with its own chains' way; one of a single point, where no chains began at the
            fit's draws, is drawn across.
        last: iteration that the figure ends with.
    """
    with svg.sheet(key, 2.3) as figure:
        ax = figure.subplots()
        ax.set_yscale("log")
        ax.set_xscale("asinh", linear_width=4)
        ax.axhline(1.0, color=Colour.TARGET, linewidth=4)
        for name, way in sides.items():
            style = "solid" if name == "inside" else (0, (3, 2))
            _line(ax, way, color=Colour.INK, linestyle=style)
            _named(ax, name, way)
        for fit, way in fits:
            still = len(way.iterations) == 1
            shown = _across(way, last) if still else way
            for drawn in _line(ax, shown, color=fit.style.colour, linestyle=fit.style.line):
                svg.mine(drawn, fit.style)
        ax.set(xlabel="iterations of each chain", ylabel="length ÷ the target's", xlim=(0, last))
        svg.plain_ticks(ax.yaxis)
        ticks = [t for t in (0, 8, 16, 32, 64, 128, 256, 512, 1024, 2048) if t <= last]
        ax.set_xticks(ticks, [f"{t}" for t in ticks])
        ax.set_xticks([], minor=True)
        told = "; ".join(_told(name, way) for name, way in _all(sides, fits))
        return svg.inline(
            figure, key, f"90 % intervals of {label}, as the chains went on",
            f"Length ÷ the target's, first and last: {told}.",
        )  # fmt: skip


def _across(way: Way, last: float) -> Way:
    return Way(np.array([0.0, last]), np.repeat(way.length, 2), np.repeat(way.error, 2))


def _all(sides: Mapping[str, Way], fits: Sequence[tuple[FitView, Way]]):
    return [*sides.items(), *((fit.name, way) for fit, way in fits)]


def _line(ax, way: Way, **looks) -> list:
    """The line, and its band where there is one: all that is to go when a fit is hidden."""
    drawn = ax.plot(way.iterations, way.length, linewidth=1.5, **looks)
    if way.error.max() > 0:
        low = np.maximum(way.length - way.error, way.length / 3)  # the axis is logarithmic
        high = way.length + way.error
        drawn.append(
            ax.fill_between(
                way.iterations, low, high, color=looks["color"], alpha=0.15, linewidth=0
            )
        )
    return drawn


def _named(ax, name: str, way: Way) -> None:
    """What a population is called, where it began."""
    ax.annotate(
        name, (way.iterations[0], way.length[0]), xytext=(4, 0), textcoords="offset points",
        va="bottom" if name == "outside" else "top", fontsize=8, color=Colour.INK,
    )  # fmt: skip


def _told(name: str, way: Way) -> str:
    first, last = (formatting.plain(float(way.length[i])) for i in (0, -1))
    return f"{name} {first}" if len(way.length) == 1 else f"{name} {first} to {last}"
