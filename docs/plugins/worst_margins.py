"""A section of the page: the margin of each fit whose mean is furthest off.

A section is one function of the View, which holds nothing but results.json and the draws. It
returns plain records (tables, pictures, notes) that the template knows how to show and escapes,
or None where it has nothing to say.
"""

from __future__ import annotations

from vi_compare import formatting
from vi_compare.report.blocks import Cell, Column, Row, Section, Table, measured, name_of
from vi_compare.report.view import FitView, View


def section(view: View) -> Section | None:
    fits = [fit for fit in view.fits if _worst(fit)]
    if not fits:
        return None  # say nothing rather than show an empty table
    columns = [Column.words("Fit"), Column.words("Margin"), Column("Mean", "off ÷ sd")]
    # A row that belongs to a fit is dimmed when the reader picks another one.
    rows = [Row([name_of(fit), *_cells(fit)], fit) for fit in fits]
    caption = f"Of {formatting.words(len(fits))} fits, the margin whose mean is furthest off."
    table = Table(columns, rows, "worst-margins", caption=caption)
    # The key is the anchor. `order` is the place on the page: without it a section comes before
    # "All numbers".
    return Section("worst-margins", "Worst margins", "", [table], order=95)


def _cells(fit: FitView) -> list[Cell]:
    label = _worst(fit)
    return [Cell(label), measured(fit.reading("mean_shift", label))]


def _worst(fit: FitView) -> str | None:
    """The label of the margin, or None where none was measured."""
    # fit.data is the fit's entry in results.json: see vi_compare/results.schema.json.
    by = fit.data["metrics"].get("mean_shift", {}).get("by", {})
    known = {label: abs(part["value"]) for label, part in by.items() if part["value"] is not None}
    return max(known, key=known.get, default=None)
