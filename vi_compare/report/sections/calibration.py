"""Whether draws of the target rank among draws of a fit as they should."""

from __future__ import annotations

from collections.abc import Sequence

from vi_compare import formatting
from vi_compare.report.blocks import Cell, Column, Picture, Pictures, Row, Section, Table, name_of
from vi_compare.report.figures.pit import calibration, transform
from vi_compare.report.pairs import worst_first
from vi_compare.report.view import FitView, View, shown


def section(view: View) -> Section | None:
    fits = [f for f in view.fits if f.margins]
    if not view.reference or not fits:
        return None
    label = worst_first(fits, list(view.reference))[0]
    ranks = {f.css: transform(view.reference[label], f.margins[label]) for f in fits}
    pictures = [Picture(calibration(f, ranks[f.css], label), fit=f) for f in view.drawn]
    how = (
        "Flat is calibrated; the dots on a line mark where a fit is not. An S that starts below "
        "zero is a fit too wide, one that starts above zero a fit too narrow."
    )
    which = ", the margin that is furthest off" if len(view.reference) > 1 else ""
    n = len(next(iter(ranks.values())))
    equal = "if the fit were the target, every rank would be as likely."
    lead = (
        f"Where {n} draws of the target rank among all draws of the fit, for "
        f"{shown(label)}{which}: {equal} {view.left_out}"
    )
    return Section(
        "calibration",
        "Calibration",
        lead.strip(),
        [Pictures(pictures, how), _table(fits, ranks)],
        order=80,
    )


def _table(fits: Sequence[FitView], ranks, level: float = 0.05) -> Table:
    """`level`: of the test, before it is shared among the fits."""
    columns = [Column.words("Fit"), Column("Ranks below", "5 %"), Column("Ranks above", "95 %")]
    columns.append(Column("p-value", "uniform ranks"))
    rows = [Row([name_of(f), *_cells(ranks[f.css], level, len(fits))], f) for f in fits]
    caption = (
        "From arviz_stats' test of uniformity. A small p-value says "
        f"that a fit is off, not by how much; ✗ below {level:g} shared among the "
        f"{formatting.words(len(fits))} fits. Perfect shares are 5 %."
    )
    return Table(columns, rows, "calibration", caption=caption)


def _cells(ranks, level: float, tests: int) -> list[Cell]:
    from arviz_stats.base import array_stats

    shares = [float((ranks < 0.05).mean()), float((ranks > 0.95).mean())]
    p = float(array_stats.uniformity_test(ranks)[0])
    mark = "bad" if p < level / tests else "near" if p < level else "good"
    cells = [Cell(formatting.percent(share), value=share) for share in shares]
    return [*cells, Cell(formatting.p_value(p), mark=mark, value=p)]
