"""The divergences as lengths of codes: bits that a wrong fit costs."""

from __future__ import annotations

import math
from dataclasses import replace

from vi_compare import formatting
from vi_compare.report.blocks import Cell, Column, Row, Section, Table, measured, missing, name_of
from vi_compare.report.view import FitView, Reading, View

# Odds at which the fit counts as told apart from the target.
ODDS = 20


def section(view: View) -> Section | None:
    readings = [f.reading(m) for f in view.fits for m in ("forward_kl", "reverse_kl")]
    if all(r.value is None for r in readings):
        return None
    columns = [
        Column.words("Fit"),
        Column("Target coded for the fit", "extra bits per draw"),
        Column("Fit coded for the target", "extra bits per draw"),
        Column("Draws of the target", f"until odds of {ODDS} : 1"),
    ]
    rows = [Row(_cells(fit), fit) for fit in view.fits]
    caption = (
        "A code built for q spends KL(p‖q) ÷ log 2 bits more on a draw of the target than the best "
        "code does, and the reverse for draws of q. Last column: how many draws of the target it "
        f"takes on average until they speak {ODDS} : 1 against the fit, log {ODDS} ÷ KL(p‖q)."
    )
    lead = "The same two divergences, as what a wrong fit costs whoever relies on it."
    return Section(
        "information",
        "Information",
        lead,
        [Table(columns, rows, "information", caption=caption)],
        order=130,
    )


def _cells(fit: FitView) -> list[Cell]:
    forward, reverse = fit.reading("forward_kl"), fit.reading("reverse_kl")
    return [name_of(fit), measured(_bits(forward)), measured(_bits(reverse)), _until(forward)]


def _bits(nats: Reading) -> Reading:
    if nats.value is None:
        return nats
    error = None if nats.error is None else nats.error / formatting.LOG_2
    return replace(nats, value=nats.value / formatting.LOG_2, error=error)


def _until(forward: Reading) -> Cell:
    if forward.value is None:
        return missing(forward.reason)
    if forward.value <= 2 * (forward.error or 0.0):
        return Cell("no end in sight", title="KL(p‖q) is zero within its error")
    draws = math.log(ODDS) / forward.value
    text = formatting.count(math.ceil(draws)) if draws < 1e6 else formatting.plain(draws)
    return Cell(text, value=draws)
