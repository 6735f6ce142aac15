"""Joint shape: what single margins cannot show."""

from __future__ import annotations

import numpy as np
from scipy.stats import rankdata

from vi_compare import formatting
from vi_compare.report.blocks import (
    Cell,
    Column,
    Picture,
    Pictures,
    Row,
    Section,
    Table,
    name_of,
    spread_line,
)
from vi_compare.report.figures.joint import cloud
from vi_compare.report.marks import limits, mark
from vi_compare.report.pairs import most_telling, uncoupled
from vi_compare.report.view import FitView, View, shown


def section(view: View, most_figures: int = 6, most_pairs: int = 4) -> Section | None:
    """Figures of the first pair for every drawn fit, of more pairs as long as there are at most
    `most_figures` in all, and a table of `most_pairs` pairs."""
    fits = [f for f in view.fits if f.margins]
    if len(view.reference) < 2 or not fits:
        return None
    pairs = most_telling(view.reference, fits, most_pairs)
    if not pairs:
        return None
    blocks: list = [
        Pictures([_picture(view, fit, i, pair) for fit in view.drawn], _how(pair), (), False)
        for i, pair in enumerate(pairs[: max(1, most_figures // len(view.drawn))])
    ]
    many = len(view.reference) > 2
    lead = (
        "Two margins at once: a fit can have every margin right and their combination wrong."
        + (" Shown are the pairs where some fit has most draws in the wrong place." if many else "")
        + f" {view.left_out}"
    )
    listed = list(dict.fromkeys([*uncoupled(view.reference, fits), *pairs]))[:most_pairs]
    return Section(
        "joint", "Joint shape", lead.strip(), [*blocks, _table(view, fits, listed)], order=100
    )


def _how(pair: tuple[str, str]) -> str:
    return (
        f"{shown(pair[0])} against {shown(pair[1])}. Grey: draws of the target; in "
        "colour: draws of the fit. Grey alone is missed, colour alone is invented."
    )


def _picture(view: View, fit: FitView, i: int, pair: tuple[str, str]) -> Picture:
    p, q = ((source[pair[0]], source[pair[1]]) for source in (view.reference, fit.margins))
    return Picture(cloud(f"joint{i}", fit, pair, p, q), fit=fit)


def _table(view: View, fits: list[FitView], pairs: list[tuple[str, str]]) -> Table:
    columns = [Column.words("Pair"), Column.words("Fit"), Column("Correlation", "target")]
    columns += [Column("Correlation", "fit"), Column("Difference")]
    rows = [Row(_cells(view, fit, pair), fit) for pair in pairs for fit in fits]
    caption = (
        "Of ranks. First the pairs where a fit is furthest off; ± is one standard error, as for "
        "independent draws. Modes and bends show in the figures, not here. "
        f"Marks: {limits(view.abouts['correlation'])}."
    )
    return Table(columns, rows, "joint", "Rank correlations", caption)


def _cells(view: View, fit: FitView, pair: tuple[str, str]) -> list[Cell]:
    p, q = (_correlation(source, pair) for source in (view.reference, fit.margins))
    difference = (q[0] - p[0], float(np.hypot(p[1], q[1])))
    told = mark(view.abouts["correlation"], difference[0])
    numbers_of = [_cell(*p), _cell(*q), _cell(*difference, told)]
    return [
        Cell(f"{shown(pair[0])}, {shown(pair[1])}"),
        name_of(fit),
        *numbers_of,
    ]


def _correlation(margins: dict[str, np.ndarray], pair: tuple[str, str]) -> tuple[float, float]:
    x, y = (rankdata(margins[label]) for label in pair)
    r = float(np.corrcoef(x, y)[0, 1]) if x.std() > 0 and y.std() > 0 else 0.0
    # Bonett and Wright 2000, as in the metric
    return r, (1 - r**2) * float(np.sqrt((1 + r**2 / 2) / x.size))


def _cell(value: float, error: float, mark: str = "") -> Cell:
    text, spread = formatting.pair(value, error)
    return Cell(text, spread_line(spread), mark, value=value, error=error)
