"""The density of the optimum as α moves: a stage for the page's script, and stills of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup

from vi_compare import formatting
from vi_compare.report import svg
from vi_compare.report.palette import Colour
from vi_compare.report.path import Branch, Margin, Path
from vi_compare.report.path.words import alpha


@dataclass(frozen=True)
class Stage:
    """Axes and the target, with an empty curve that the script fills.

    Attributes:
        svg: the figure.
        x: (g,) where the grid stands on it.
        floor, ceiling: where density 0 and the top of the axis stand on it.
        top: the density at the top.
    """

    svg: Markup
    x: np.ndarray
    floor: float
    ceiling: float
    top: float


def stage(path: Path, k: int) -> Stage:
    """The stage of margin `k`."""
    margin, key = path.margins[k], f"path-stage-{k}"
    top = _top(path, k)
    with svg.sheet(key, 3.3) as figure:
        ax = figure.subplots()
        _target(ax, margin, top)
        ax.set(xlabel=margin.label, ylabel="density")
        svg.settle(figure)
        spots = svg.place(figure, ax, [(x, 0) for x in margin.grid])
        ceiling = svg.place(figure, ax, [(0, top)])[0, 1]
        picture = svg.inline(
            figure, key, f"Density over {margin.label} at the α of the slider",
            f"Filled: the target. Thick line: the optimum at the α of the slider, from "
            f"{formatting.plain(path.range[0])} to {formatting.plain(path.range[1])}; what it "
            f"says is in the text beside the slider. Thin lines: the other optima there.",
        )  # fmt: skip
        layer = Markup('<g class="others"></g><path class="now"/>')
        return Stage(svg.over(picture, layer), spots[:, 0], float(spots[0, 1]), ceiling, top)


def stills(
    path: Path, k: int, looks: Sequence[tuple[Branch, int]], description: str,
    columns: int = 3, points: int = 120,
) -> Markup:  # fmt: skip
    """Small multiples of margin `k`: these points of these branches, in so few pixels that a
    curve needs `points` at most."""
    margin, key, top = path.margins[k], f"path-stills-{k}", _top(path, k)
    rows, step = -(-len(looks) // columns), -(-len(margin.grid) // points)
    few = Margin(margin.label, margin.grid[::step], margin.target[::step])
    with svg.sheet(key, 0.4 + 1.25 * rows) as figure:
        grid = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).ravel()
        for ax, (branch, i) in zip(grid, looks, strict=False):
            _target(ax, few, top)
            ax.plot(few.grid, branch.densities[i, k, ::step], color=Colour.INK, linewidth=1.5)
            ax.set_title(f"α = {alpha(branch.alpha[i])}, {branch.name}", fontsize=8)
            ax.set(yticks=[])
        for ax in grid[len(looks) :]:
            ax.set_axis_off()
        figure.supxlabel(margin.label, fontsize=8.5, color=Colour.MUTED)
        return svg.inline(figure, key, f"The lowest optimum over {margin.label}", description)


def _target(ax, margin: Margin, top: float) -> None:
    svg.fill(ax, margin.grid, np.nan_to_num(margin.target), color=Colour.TARGET)
    ax.set(xlim=(margin.grid[0], margin.grid[-1]), ylim=(0, top))


def _top(path: Path, k: int, spike: float = 4.0) -> float:
    """Top of the axis: every curve fits under it, but for one that rises more than `spike` times
    as high as the target, which is cut off."""
    peak = np.nanmax(path.margins[k].target, initial=0.0)
    highest = max((_peak(b, k) for b in path.branches), default=0.0)
    return 1.05 * max(min(highest, spike * peak), peak) or 1.0


def _peak(branch: Branch, k: int) -> float:
    finite = branch.densities[:, k][np.isfinite(branch.densities[:, k])]
    return float(finite.max(initial=0.0))
