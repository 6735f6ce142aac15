"""Where each divergence collects its penalty; for targets on the line."""

from __future__ import annotations

import math

import numpy as np

from vi_compare import formatting
from vi_compare.report.blocks import Cell, Column, Note, Picture, Pictures, Row, Section, Table
from vi_compare.report.curves import Curves, Penalty
from vi_compare.report.figures.penalty import strips
from vi_compare.report.view import LONGEST, FitView, View, short

ORDER = 20

RULE = (
    "Where p ≫ q forward KL charges about log(p/q) nats per unit of missed mass, without limit; "
    "reverse KL never charges more than 1 nat per unit. The mirror image holds for invented mass: "
    "where q ≫ p reverse KL charges about log(q/p) nats per unit, without limit, and forward KL "
    "never more than 1."
)


def section(view: View) -> Section | None:
    curves = Curves.of(view)
    fits = [f for f in view.drawn if curves and f.key in curves.log_q]
    if curves is None or not fits:
        return None
    paid = {f.key: _both(curves, f) for f in fits}
    pictures = [
        Picture(strips(f, curves, curves.log_q[f.key], *paid[f.key], view.axis), fit=f)
        for f in fits
    ]
    how = (
        "Grey: target; coloured line: fit. Each strip has its own vertical scale, and its total is "
        "printed in it. Filled is p·log(p/q) − p + q (and its mirror image), which is never "
        "negative and has the same total as the usual integrand, dashed."
    )
    lead = "A divergence is an integral, so it can be read point by point: where is it paid?"
    notes = [
        Note("p is more than 10 × q.", "Zero-avoiding zone", True, "avoid"),
        Note("q is more than 10 × p.", "Zero-forcing zone", True, "force"),
        Note(RULE),
    ]
    # About integrals over the grid, not about the Monte Carlo numbers of the scoreboard.
    range_note = "Totals by quadrature over the range shown; " + _held(curves, fits)
    blocks = [*notes, Pictures(pictures, how), _table(view, curves, fits, paid, range_note)]
    return Section("penalty", "Where the penalty falls", lead, [b for b in blocks if b])


def _both(curves: Curves, fit: FitView) -> tuple[Penalty, Penalty]:
    log_q = curves.log_q[fit.key]
    return Penalty.of(curves.log_p, log_q), Penalty.of(log_q, curves.log_p)


def _held(curves: Curves, fits) -> str:
    """How much of everything the range shown holds: what lies outside is not in the totals."""
    shares = [
        curves.integral(curves.p),
        *(curves.integral(np.exp(curves.log_q[f.key])) for f in fits),
    ]
    least = formatting.percent(math.floor(1000 * min(*shares, 1.0)) / 1000)  # never more than true
    return f"it holds at least {least} of the target and of every fit."


def _table(view: View, curves: Curves, fits, paid, caption: str) -> Table | Note:
    if len(view.modes) < 2:
        why = view.target["modes"]["reason"] or "the target has one mode"
        return Note(f"There is no table by region: {why}. {caption}")
    regions = curves.regions(view.modes)
    columns = [Column.words("Region"), Column("Target", "mass")]
    columns += [Column(f.name, "fwd | rev, %", long=True, fit=f) for f in fits]
    rows = []
    for mode, first, last in regions:
        cells = [
            Cell(
                short(mode.name[:1].upper() + mode.name[1:], LONGEST), value=float(mode.location[0])
            )
        ]
        mass = curves.integral(curves.p, first, last)
        cells.append(Cell(formatting.percent(mass), value=mass))
        cells += [_share(curves, paid[f.key], first, last) for f in fits]
        rows.append(Row(cells))
    caption = f"Regions meet at the minima of log p between the modes. {caption}"
    return Table(columns, rows, "penalty", "Where the nats are paid", caption)


def _share(curves: Curves, both: tuple[Penalty, Penalty], first: int, last: int) -> Cell:
    shares = []
    for penalty in both:
        total = curves.integral(penalty.paid)
        part = curves.integral(penalty.paid, first, last)
        shares.append(part / total if total > 0 else 0.0)
    forward, reverse = (formatting.fixed(100 * share, 0) for share in shares)
    return Cell(f"{forward} | {reverse}", value=shares[0])
