"""ELBO ≤ log Z ≤ EUBO: the evidence, bounded from both sides by every fit."""

from __future__ import annotations

import math

from vi_compare import formatting
from vi_compare.report.blocks import Cell, Column, Note, Row, Section, Table, measured, name_of
from vi_compare.report.view import FitView, Reading, View

ORDER = 45


def section(view: View, chance: float = 4.0) -> Section | None:
    """`chance`: standard errors by which a bound may be crossed by chance, for a few fits with
    two bounds each."""
    if view.target["normalised"] or all(f.reading("elbo").value is None for f in view.fits):
        return None
    known = view.target["log_normalizer"]
    columns = [
        Column.words("Fit"),
        Column.of(view.abouts["elbo"]),
        Column("log Z", "nats"),
        Column.of(view.abouts["eubo"]),
        Column("Gap", "EUBO − ELBO", title="the sum of both KLs"),
    ]
    log_z = Reading(known["value"], known["standard_error"]) if known else None
    rows = [Row(_cells(fit, log_z, chance), fit) for fit in view.fits]
    method = f"log Z by {known['method']}." if known else f"{_why(view)}."
    caption = (
        f"{method} Reverse KL is log Z − ELBO, forward KL is EUBO − log Z. A bound on the wrong "
        f"side of log Z by more than {chance:g} standard errors is marked ✗: then the draws of the "
        "target, or of the fit, are not what they should be."
    )
    lead = "The target is known up to a constant; each fit bounds the constant from both sides."
    blocks: list = [Table(columns, rows, "bounds", caption=caption)]
    if log_z is None:
        blocks.append(Note(f"No absolute KL: {_why(view)}.", boxed=True))
    return Section("bounds", "Evidence bounds", lead, blocks)


def _why(view: View) -> str:
    return view.target.get("log_normalizer_reason") or "log Z is not known"


def _cells(fit: FitView, log_z: Reading | None, chance: float) -> list[Cell]:
    elbo, eubo = fit.reading("elbo"), fit.reading("eubo")
    return [
        name_of(fit, about=True),
        _bound(elbo, log_z, chance, side=1),
        measured(log_z or Reading(None, reason="log Z is not known")),
        _bound(eubo, log_z, chance, side=-1),
        measured(_gap(elbo, eubo)),
    ]


def _bound(bound: Reading, log_z: Reading | None, chance: float, side: int) -> Cell:
    """`side` × (bound − log Z) must not be positive by more than chance."""
    cell = measured(bound)
    if bound.value is None or log_z is None or log_z.value is None:
        return cell
    beyond = side * (bound.value - log_z.value)
    error = math.hypot(bound.error or 0.0, log_z.error or 0.0)
    text, _ = formatting.pair(bound.value, bound.error)
    mark = "bad" if beyond > chance * error else "good"
    return Cell(text, cell.below, mark, value=bound.value, error=bound.error)


def _gap(elbo: Reading, eubo: Reading) -> Reading:
    if elbo.value is None or eubo.value is None:
        return Reading(None, reason=elbo.reason or eubo.reason)
    error = math.hypot(elbo.error or 0.0, eubo.error or 0.0)
    return Reading(eubo.value - elbo.value, error)
