"""What each rung of the ladder brought, and what it cost."""

from __future__ import annotations

from math import hypot

from vi_compare import formatting
from vi_compare.report.blocks import (
    Cell,
    Column,
    Row,
    Section,
    Table,
    measured,
    missing,
    name_of,
    recorded,
    spread_line,
)
from vi_compare.report.climb import rungs, where_it_ended
from vi_compare.report.view import FitView, View


def section(view: View) -> Section | None:
    made = rungs(view)
    if not made:
        return None
    columns = [
        Column.words("Rung"),
        Column.words("Verdict"),
        Column.of(view.abouts["elbo"]),
        Column("Bought", "nats", title="ELBO above that of the rung before"),
        Column("Time", "s"),
        Column("Gradient", "evaluations"),
    ]
    rows = [
        Row(_cells(fit, before), fit) for fit, before in zip(made, [None, *made[:-1]], strict=True)
    ]
    caption = (
        "Each rung is tried only where none before it is Faithful. Where log Z is the same, a "
        "difference in ELBO is one in reverse KL."
    )
    table = Table(columns, rows, "ladder", caption=caption)
    return Section("ladder", "The ladder", where_it_ended(view), [table], order=1)


def _cells(fit: FitView, before: FitView | None) -> list[Cell]:
    return [
        name_of(fit, about=True),
        Cell(fit.word),
        measured(fit.reading("elbo")),
        _bought(fit, before),
        Cell(formatting.seconds(fit.seconds), value=fit.seconds),
        recorded(fit.data["cost"]["gradient_evaluations"], formatting.count),
    ]


def _bought(fit: FitView, before: FitView | None) -> Cell:
    if before is None:
        return Cell("–", title="the first rung")
    here, there = fit.reading("elbo"), before.reading("elbo")
    if here.value is None or there.value is None:
        return missing(here.reason or there.reason)
    gain, error = here.value - there.value, hypot(here.error or 0.0, there.error or 0.0)
    value, spread = formatting.pair(gain, error)
    return Cell(value, spread_line(spread), value=gain, error=error)
