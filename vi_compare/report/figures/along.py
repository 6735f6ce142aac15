"""Stacked panels over α: the lowest branch thick, the others thin, ends and jumps marked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from markupsafe import Markup

from vi_compare import formatting
from vi_compare.report import svg
from vi_compare.report.palette import Colour, linestyle
from vi_compare.report.path import Branch, Path
from vi_compare.report.path.words import pole


@dataclass(frozen=True)
class Panel:
    """One quantity over α.

    Attributes:
        label: what stands beside the axis.
        lines: {branch: (n, L)} L lines of each branch, told apart by their dashes.
        errors: {branch: (n, L)} their standard errors; left out where there are none.
        level: what the target has, as a grey line.
        limits: of the axis; None leaves one free.
    """

    label: str
    lines: dict[str, np.ndarray]
    errors: dict[str, np.ndarray] = field(default_factory=dict)
    level: float | None = None
    limits: tuple[float | None, float | None] = (None, None)


def stack(
    key: str, path: Path, panels: Sequence[Panel], title: str, description: str, each: float
) -> Markup:
    """The panels above each other, each of them `each` inches high."""
    with svg.sheet(key, 0.75 + each * len(panels)) as figure:
        axes = figure.subplots(len(panels), 1, sharex=True, squeeze=False)[:, 0]
        for ax, panel in zip(axes, panels, strict=True):
            _panel(ax, path, panel)
        _alpha(axes[-1], path)
        figure.align_ylabels(axes)
        svg.settle(figure)
        return svg.over(
            svg.inline(figure, key, title, description), _cursor(figure, axes, path.range)
        )


def crowded(panel: Panel, most: int = 24) -> bool:
    """Whether it has more lines than a reader can tell apart.

    Then only branches that are the lowest somewhere are drawn, without letters: these would
    hide the lines.
    """
    return sum(lines.shape[1] for lines in panel.lines.values()) > most


def _drawn(path: Path, panel: Panel) -> Sequence[Branch]:
    return path.ever_best if crowded(panel) and path.ever_best else path.branches


def _panel(ax, path: Path, panel: Panel) -> None:
    if panel.level is not None:
        ax.axhline(panel.level, color=Colour.TARGET, linewidth=4)
    for jump in path.jumps:
        _jump(ax, jump.alpha, jump.error)
    for branch in _drawn(path, panel):
        lines = panel.lines[branch.name]
        for k in range(lines.shape[1]):
            _line(ax, path, branch, lines[:, k], k)
            # Bands of all branches would hide each other.
            if branch.name in panel.errors and branch.best.any():
                _band(ax, branch, lines[:, k], panel.errors[branch.name][:, k])
    ax.set(ylabel=panel.label, ylim=panel.limits)
    _letters(ax, path, panel)


def _line(ax, path: Path, branch: Branch, y: np.ndarray, k: int) -> None:
    """The branch thin, and thick where no other is lower."""
    style = linestyle(k)
    ax.plot(branch.alpha, y, color=Colour.MUTED, linewidth=0.9, linestyle=style)
    for low, high in path.where_best(branch):
        inside = branch.alpha[(branch.alpha >= low) & (branch.alpha <= high)]
        x = np.unique([low, *inside, high])
        ax.plot(x, np.interp(x, branch.alpha, y), color=Colour.INK, linewidth=2.4, linestyle=style)
    for end, i in ((branch.begin, 0), (branch.end, -1)):
        if end.lost and np.isfinite(y[i]):
            # The end lies between two points of the path, or beyond the last.
            ax.plot([branch.alpha[i], end.alpha], [y[i]] * 2, color=Colour.MUTED, linewidth=0.9)
            ax.errorbar(
                [end.alpha], [y[i]], xerr=[end.error or 0.0], fmt="x", color=Colour.INK,
                markersize=4.5, markeredgewidth=1.2, elinewidth=1.2,
            )  # fmt: skip


def _band(ax, branch: Branch, y: np.ndarray, error: np.ndarray) -> None:
    """One standard error to each side, where there is one."""
    known = np.isfinite(y) & np.isfinite(error)
    if known.any() and error[known].max() > 0:
        x, y, error = branch.alpha[known], y[known], error[known]
        ax.fill_between(x, y - error, y + error, color=Colour.MUTED, alpha=0.25, linewidth=0)


def _jump(ax, alpha: float, error: float | None) -> None:
    ax.axvline(alpha, color=Colour.LINE, linewidth=1.0, linestyle=(0, (3, 2)))
    if error:
        ax.errorbar(
            [alpha], [0.97], xerr=[error], color=Colour.INK, elinewidth=1.2, capsize=2.5,
            transform=ax.get_xaxis_transform(),
        )  # fmt: skip


def _letters(ax, path: Path, panel: Panel) -> None:
    """The names of branches where they end; those of neighbours stand together."""
    if crowded(panel):
        return
    ax.autoscale_view()
    low, high = ax.get_ylim()
    placed: list[tuple[float, float, list[str]]] = []
    for branch in path.branches:
        for y in panel.lines[branch.name].T:
            if np.isfinite(y[-1]):
                _join(placed, branch.end.alpha, (y[-1] - low) / (high - low), branch.name)
    for x, height, names in placed:
        ax.annotate(
            _together(names), (x, low + height * (high - low)), xytext=(5, 0),
            textcoords="offset points", va="center", fontsize=8, color=Colour.INK,
            annotation_clip=False,
        )  # fmt: skip


def _together(names: list[str], most: int = 3) -> str:
    """ "B D", "B–L": never so long that it leaves the figure."""
    return " ".join(names) if len(names) <= most else f"{names[0]}–{names[-1]}"


def _join(placed: list, x: float, height: float, name: str, apart: float = 0.13) -> None:
    """Put a letter beside those that stand closer than `apart`, a share of the panel's height."""
    for other_x, other, names in placed:
        if abs(other_x - x) < 1e-9 and abs(other - height) < apart:
            names += [] if name in names else [name]
            return
    placed.append((x, height, [name]))


def _alpha(ax, path: Path, longest: float = 4.0) -> None:
    """The axis of α; over a range longer than `longest` the two KLs' names need two lines."""
    low, high = path.range
    room = 0.03 * (high - low) or 0.1
    ax.set(xlabel="α", xlim=(low - room, high + room))
    ticks = [t for t in ax.get_xticks() if low - 1e-9 <= t <= high + 1e-9]
    ticks = sorted({*np.round(ticks, 6).tolist(), *(p for p in (0.0, 1.0) if low <= p <= high)})
    ax.set_xticks(ticks, [_tick(t, folded=high - low > longest) for t in ticks])


def _tick(alpha: float, *, folded: bool) -> str:
    text, name = formatting.minus(f"{alpha:g}"), pole(alpha)
    return f"{text}\n{name.replace(' ', chr(10)) if folded else name}" if name else text


def _cursor(figure, axes, ends: tuple[float, float]) -> Markup:
    """A line that the page's script puts at the α of the slider."""
    spots = svg.place(figure, axes[-1], [(end, 0) for end in ends])
    top = figure.bbox.height - axes[0].get_window_extent().y1
    bottom = figure.bbox.height - axes[-1].get_window_extent().y0
    return Markup(
        '<line class="cursor" data-from="{:.1f}" data-to="{:.1f}" y1="{:.1f}" y2="{:.1f}"/>'
    ).format(spots[0, 0], spots[1, 0], top, bottom)
