"""Two prices of every point of a path against each other, and where the study's fits stand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup

from vi_compare.report import palette, svg
from vi_compare.report.figures.along import POLES
from vi_compare.report.path import Branch, Path
from vi_compare.report.path.words import alpha as words
from vi_compare.report.view import FitView, Reading

# α whose place on the curve is written beside it, those that matter most first.
NAMED = (0.0, 1.0, 0.5)
ROOM = (85.0, 11.0)  # points that such a name needs to itself
APART_FOR_LOG = 8.0  # times


@dataclass(frozen=True)
class Sides:
    """What is drawn against what: measures of a path, which are metrics of a fit as well."""

    x: str
    y: str
    x_label: str
    y_label: str


@dataclass(frozen=True)
class Drawn:
    """The figure, and where on it every point of every branch stands: {branch: (n, 2)}."""

    svg: Markup
    places: dict[str, np.ndarray]


Dot = tuple[FitView, Reading, Reading]


def tradeoff(path: Path, sides: Sides, dots: Sequence[Dot], description: str) -> Drawn:
    """`dots` are (fit, reading on x, reading on y), both with values."""
    log = _apart(path, sides, dots)
    with svg.sheet("path-tradeoff", 3.3) as figure:
        ax = figure.subplots()
        if log:
            ax.set(xscale="log", yscale="log")
        for branch in path.branches:
            _branch(ax, branch, sides)
        for low, high in _jumps(path, sides):
            ax.plot(*np.transpose([low, high]), color=palette.LINE, linewidth=1, linestyle="--")
        for k, dot in enumerate(dots):
            _dot(ax, *dot, max(10.0 - 1.2 * k, 6.5))
        ax.margins(0.09)
        _named(ax, path, sides)
        if log:
            _plain_ticks(ax)
        ax.set(xlabel=sides.x_label, ylabel=sides.y_label)
        ax.grid(color=palette.LINE, linewidth=0.4, alpha=0.5)
        svg.settle(figure)
        places = {b.name: svg.place(figure, ax, _points(b, sides)) for b in path.branches}
        picture = svg.inline(
            figure, "path-tradeoff", f"{sides.y_label} against {sides.x_label}", description
        )
        ring = Markup('<circle class="ring" r="6"/>')
        return Drawn(svg.over(picture, ring), places)


def _points(branch: Branch, sides: Sides) -> np.ndarray:
    return np.column_stack([branch.measures[sides.x][:, 0], branch.measures[sides.y][:, 0]])


def _branch(ax, branch: Branch, sides: Sides) -> None:
    spots = _points(branch, sides)
    ax.plot(*spots.T, color=palette.MUTED, linewidth=0.9)
    _bars(ax, branch, sides)
    # NaN breaks the line where another branch is lower.
    best = np.where(branch.best[:, None], spots, np.nan)
    ax.plot(*best.T, color=palette.INK, linewidth=2.4, marker=".", markersize=4.5)
    seen = np.flatnonzero(np.isfinite(spots).all(axis=1))
    if seen.size:
        ax.annotate(
            branch.name, spots[seen[0]], xytext=(-5, 4), textcoords="offset points", ha="right",
            fontsize=8, color=palette.INK, annotation_clip=False,
        )  # fmt: skip


def _bars(ax, branch: Branch, sides: Sides) -> None:
    """One standard error to each side where it is lowest: more bars than that hide each other."""
    error = [np.nan_to_num(branch.measures[name][branch.best, 1]) for name in (sides.x, sides.y)]
    if max(e.max(initial=0.0) for e in error) > 0:
        ax.errorbar(
            *_points(branch, sides)[branch.best].T, xerr=error[0], yerr=error[1], fmt="none",
            ecolor=palette.MUTED, elinewidth=0.7,
        )  # fmt: skip


def _jumps(path: Path, sides: Sides) -> list[tuple[np.ndarray, np.ndarray]]:
    """From the last point before a jump to the first after it."""
    found = []
    named = {b.name: b for b in path.branches}
    for jump in path.jumps:
        old, new = named.get(jump.old), named.get(jump.new)
        if old is None or new is None:
            continue
        before = np.flatnonzero(old.alpha <= jump.alpha)
        after = np.flatnonzero(new.alpha >= jump.alpha)
        if before.size and after.size:
            found.append((_points(old, sides)[before[-1]], _points(new, sides)[after[0]]))
    return [pair for pair in found if np.isfinite(pair).all()]


def _dot(ax, fit: FitView, x: Reading, y: Reading, size: float) -> None:
    """Later ones are smaller: where fits agree, the rim of each still shows."""
    for bars in ax.errorbar(
        [x.value], [y.value], xerr=[x.error or 0.0], yerr=[y.error or 0.0], fmt="none",
        ecolor=fit.style.colour, elinewidth=1,
    )[2]:  # fmt: skip
        svg.mine(bars, fit.style)
    (point,) = ax.plot(
        [x.value], [y.value], fit.style.marker, color=fit.style.colour, markersize=size,
        markeredgecolor=palette.SURFACE, markeredgewidth=0.8, zorder=5,
    )  # fmt: skip
    svg.mine(point, fit.style)


def _named(ax, path: Path, sides: Sides) -> None:
    """ "α = 0 (reverse KL)" beside the lowest optimum there, where there is room."""
    taken: list[np.ndarray] = []
    for alpha in dict.fromkeys((*NAMED, *path.range)):
        found = path.best(alpha)
        spot = _points(found[0], sides)[found[1]] if found else np.full(2, np.nan)
        if not np.isfinite(spot).all():
            continue
        place = ax.transData.transform(spot) * 72 / ax.figure.dpi
        if any((abs(place - other) < ROOM).all() for other in taken):
            continue
        taken.append(place)
        pole = f" ({POLES[alpha]})" if alpha in POLES else ""
        ax.annotate(
            f"α = {words(alpha)}{pole}", spot, xytext=(9, 6),
            textcoords="offset points", fontsize=7.5, color=palette.MUTED,
        )  # fmt: skip


def _apart(path: Path, sides: Sides, dots: Sequence[Dot]) -> bool:
    """Whether log scales are needed, and possible."""
    spots = np.concatenate(
        [*(_points(b, sides) for b in path.branches), *([[x.value, y.value]] for _, x, y in dots)]
    )
    spots = spots[np.isfinite(spots).all(axis=1)]
    if not spots.size or spots.min() <= 0:
        return False
    return bool((spots.max(axis=0) > APART_FOR_LOG * spots.min(axis=0)).any())


def _plain_ticks(ax) -> None:
    """0.1, 0.2, 0.5, 1 instead of powers of ten."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    for axis in (ax.xaxis, ax.yaxis):
        low, high = sorted(axis.get_view_interval())
        subs = (1, 2, 5) if high < 200 * low else (1,)
        axis.set_major_locator(LogLocator(subs=subs, numticks=12))
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axis.set_minor_formatter(NullFormatter())
