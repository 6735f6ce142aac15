"""Two prices of every point of a path against each other, and where the study's fits stand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup

from vi_compare.report import svg
from vi_compare.report.palette import Colour
from vi_compare.report.path import Branch, Path
from vi_compare.report.path.words import alpha as words
from vi_compare.report.path.words import pole
from vi_compare.report.view import FitView, Reading


@dataclass(frozen=True)
class Sides:
    """What is drawn against what: measures of a path, which are metrics of a fit as well."""

    x: str
    y: str
    x_label: str
    y_label: str


@dataclass(frozen=True)
class Map:
    """The figure, and where on it every point of every branch stands: {branch: (n, 2)}."""

    svg: Markup
    places: dict[str, np.ndarray]


Dot = tuple[FitView, Reading, Reading]


def tradeoff(path: Path, sides: Sides, dots: Sequence[Dot], description: str) -> Map:
    """`dots` are (fit, reading on x, reading on y), both with values."""
    log = _apart(path, sides, dots)
    with svg.sheet("path-tradeoff", 3.3) as figure:
        ax = figure.subplots()
        if log:
            ax.set(xscale="log", yscale="log")
        for branch in path.branches:
            _branch(ax, branch, sides)
        for jump in _jumps(path, sides):
            ax.plot(*np.transpose(jump), color=Colour.LINE, linewidth=1, linestyle="--")
        for k, dot in enumerate(dots):
            _dot(ax, *dot, max(10.0 - 1.2 * k, 6.5))
        ax.margins(0.09)
        _named(ax, path, sides)
        for axis in (ax.xaxis, ax.yaxis) if log else ():
            low, high = sorted(axis.get_view_interval())
            # Over more than two decades the powers of ten are ticks enough.
            svg.plain_ticks(axis, (1, 2, 5) if high < 200 * low else (1,), 12)
        ax.set(xlabel=sides.x_label, ylabel=sides.y_label)
        ax.grid(color=Colour.LINE, linewidth=0.4, alpha=0.5)
        svg.settle(figure)
        places = {b.name: svg.place(figure, ax, _points(b, sides)) for b in path.branches}
        picture = svg.inline(
            figure, "path-tradeoff", f"{sides.y_label} against {sides.x_label}", description
        )
        ring = Markup('<circle class="ring" r="6"/>')
        return Map(svg.over(picture, ring), places)


def _points(branch: Branch, sides: Sides) -> np.ndarray:
    return np.column_stack([branch.measures[sides.x][:, 0], branch.measures[sides.y][:, 0]])


def _branch(ax, branch: Branch, sides: Sides) -> None:
    spots = _points(branch, sides)
    ax.plot(*spots.T, color=Colour.MUTED, linewidth=0.9)
    _bars(ax, branch, sides)
    # NaN breaks the line where another branch is lower.
    best = np.where(branch.best[:, None], spots, np.nan)
    ax.plot(*best.T, color=Colour.INK, linewidth=2.4, marker=".", markersize=4.5)
    seen = np.flatnonzero(np.isfinite(spots).all(axis=1))
    if seen.size:
        ax.annotate(
            branch.name, spots[seen[0]], xytext=(-5, 4), textcoords="offset points", ha="right",
            fontsize=8, color=Colour.INK, annotation_clip=False,
        )  # fmt: skip


def _bars(ax, branch: Branch, sides: Sides) -> None:
    """One standard error to each side where it is lowest: more bars than that hide each other."""
    error = [np.nan_to_num(branch.measures[name][branch.best, 1]) for name in (sides.x, sides.y)]
    if max(e.max(initial=0.0) for e in error) > 0:
        ax.errorbar(
            *_points(branch, sides)[branch.best].T, xerr=error[0], yerr=error[1], fmt="none",
            ecolor=Colour.MUTED, elinewidth=0.7,
        )  # fmt: skip


def _jumps(path: Path, sides: Sides) -> list[tuple[np.ndarray, np.ndarray]]:
    """From the last point before a jump to the first after it."""
    known = [found for jump in path.jumps if (found := path.sides(jump))]
    pairs = [(_points(old, sides)[i], _points(new, sides)[j]) for (old, i), (new, j) in known]
    return [pair for pair in pairs if np.isfinite(pair).all()]


def _dot(ax, fit: FitView, x: Reading, y: Reading, size: float) -> None:
    """Later ones are smaller: where fits agree, the rim of each still shows."""
    for bars in ax.errorbar(
        [x.value], [y.value], xerr=[x.error or 0.0], yerr=[y.error or 0.0], fmt="none",
        ecolor=fit.style.colour, elinewidth=1,
    )[2]:  # fmt: skip
        svg.mine(bars, fit.style)
    (point,) = ax.plot(
        [x.value], [y.value], fit.style.marker, color=fit.style.colour, markersize=size,
        markeredgecolor=Colour.SURFACE, markeredgewidth=0.8, zorder=5,
    )  # fmt: skip
    svg.mine(point, fit.style)


def _named(
    ax, path: Path, sides: Sides,
    alphas: Sequence[float] = (0.0, 1.0, 0.5), room: tuple[float, float] = (85.0, 11.0),
) -> None:  # fmt: skip
    """ "α = 0 (reverse KL)" beside the lowest optimum there, where there is room.

    Args:
        alphas: to name, those that matter most first; the ends of the path come last.
        room: width and height, in points, that a name needs to itself.
    """
    taken: list[np.ndarray] = []
    for alpha in dict.fromkeys((*alphas, *path.range)):
        found = path.best(alpha)
        spot = _points(found[0], sides)[found[1]] if found else np.full(2, np.nan)
        if not np.isfinite(spot).all():
            continue
        place = ax.transData.transform(spot) * 72 / ax.figure.dpi
        if any((abs(place - other) < room).all() for other in taken):
            continue
        taken.append(place)
        name = f" ({pole(alpha)})" if pole(alpha) else ""
        ax.annotate(
            f"α = {words(alpha)}{name}", spot, xytext=(9, 6),
            textcoords="offset points", fontsize=7.5, color=Colour.MUTED,
        )  # fmt: skip


def _apart(path: Path, sides: Sides, dots: Sequence[Dot], factor: float = 8.0) -> bool:
    """Whether log scales are needed, where values lie more than `factor` apart, and possible."""
    spots = np.concatenate(
        [*(_points(b, sides) for b in path.branches), *([[x.value, y.value]] for _, x, y in dots)]
    )
    spots = spots[np.isfinite(spots).all(axis=1)]
    if not spots.size or spots.min() <= 0:
        return False
    return bool((spots.max(axis=0) > factor * spots.min(axis=0)).any())
