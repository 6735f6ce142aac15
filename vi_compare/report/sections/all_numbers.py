"""Every metric of every fit, for whoever looks for one that no other section shows."""

from __future__ import annotations

from dataclasses import replace

from vi_compare import formatting
from vi_compare.estimate import About
from vi_compare.report.blocks import (
    Cell,
    Column,
    Row,
    Section,
    Table,
    bounds_among,
    measured,
    unconfirmed,
)
from vi_compare.report.marks import better
from vi_compare.report.view import FitView, View


def section(view: View) -> Section | None:
    metrics = sorted({name for fit in view.fits for name in fit.data["metrics"]})
    if not metrics:
        return None
    columns = [Column.words("Metric"), Column.words("Best")]
    columns += [Column(fit.name, long=True, fit=fit) for fit in view.fits]
    rows = [Row([*_described(view.abouts[m]), *_cells(view, m)]) for m in metrics]
    folded = f"{len(metrics)} metrics of {formatting.words(len(view.fits))} fits"
    caption = (
        "± is one Monte Carlo standard error. Floor: what a perfect fit would score, for "
        "distances between draws as two sets of draws of the target do. Of several margins, "
        "modes or levels the worst is shown. A dash stands where the number does not exist; "
        "its reason is in results.json, and shown on hover."
    )
    caption += bounds_among(fit.reading(metric) for fit in view.fits for metric in metrics)
    return Section(
        "numbers",
        "All numbers",
        blocks=[Table(columns, rows, "numbers", caption=caption, folded=folded)],
        order=125,
    )


def _described(about: About) -> list[Cell]:
    """What is measured, and which value is the best."""
    unit = f", {about.suffix}" if about.suffix else ""
    return [Cell(f"{about.name}{unit}", (about.meaning,)), Cell(better(about))]


def _cells(view: View, metric: str) -> list[Cell]:
    cells = [_cell(fit, metric) for fit in view.fits]
    return cells if view.confirms else unconfirmed(cells)


def _cell(fit: FitView, metric: str) -> Cell:
    reading = fit.reading(metric)
    if reading.value is None:
        return Cell("–", title=reading.reason)
    cell = measured(reading, marked=True)
    floor = fit.data["metrics"][metric].get("floor")
    if floor is None:
        return cell
    written = (
        f"{formatting.plain(100 * floor, 2)} %" if reading.percent else formatting.plain(floor, 2)
    )
    return replace(cell, below=(*cell.below, f"floor {written}"))
