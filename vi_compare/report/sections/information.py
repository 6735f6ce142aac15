"""The divergences as lengths of codes: bits that a wrong fit costs."""

from __future__ import annotations

import math

from vi_compare import formatting
from vi_compare.report.blocks import Cell, Column, Row, Section, Table, measured, missing, name_of
from vi_compare.report.view import FitView, Reading, View

ORDER = 130


def section(view: View, odds: int = 20) -> Section | None:
    """`odds`: at which a fit counts as told apart from the target."""
    readings = [f.reading(m) for f in view.fits for m in ("forward_kl", "reverse_kl")]
    if all(r.value is None for r in readings):
        return None
    columns = [
        Column.words("Fit"),
        Column("Target coded for the fit", "extra bits per draw"),
        Column("Fit coded for the target", "extra bits per draw"),
        Column("Draws of the target", f"until odds of {odds} : 1"),
    ]
    rows = [Row(_cells(fit, odds), fit) for fit in view.fits]
    caption = (
        "A code built for q spends KL(p‖q) ÷ log 2 bits more on a draw of the target than the best "
        "code does, and the reverse for draws of q. Last column: how many draws of the target it "
        f"takes on average until they speak {odds} : 1 against the fit, log {odds} ÷ KL(p‖q)."
    )
    lead = "The same two divergences, as what a wrong fit costs whoever relies on it."
    return Section(
        "information", "Information", lead, [Table(columns, rows, "information", caption=caption)]
    )


def _cells(fit: FitView, odds: int) -> list[Cell]:
    forward, reverse = fit.reading("forward_kl"), fit.reading("reverse_kl")
    bits = [measured(nats.in_bits()) for nats in (forward, reverse)]
    return [name_of(fit), *bits, _until(forward, odds)]


def _until(forward: Reading, odds: int) -> Cell:
    if forward.value is None:
        return missing(forward.reason)
    if forward.value <= 2 * (forward.error or 0.0):
        return Cell("no end in sight", title="KL(p‖q) is zero within its error")
    draws = math.log(odds) / forward.value
    text = formatting.count(math.ceil(draws)) if draws < 1e6 else formatting.plain(draws)
    return Cell(text, value=draws)
