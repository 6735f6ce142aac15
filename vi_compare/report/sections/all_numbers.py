"""Every metric of every fit, for whoever looks for one that no other section shows."""

from __future__ import annotations

import ast
from functools import cache
from importlib.resources import files

from vi_compare import catalogue, formatting
from vi_compare.report.blocks import Cell, Column, Row, Section, Table, measured
from vi_compare.report.view import NAMES, FitView, View

ORDER = 125

UNITS = {"nats": ", nats", "sd": ", sd"}


def section(view: View) -> Section | None:
    metrics = sorted({name for fit in view.fits for name in fit.data["metrics"]})
    if not metrics:
        return None
    columns = [Column.words("Metric")]
    columns += [Column(fit.name, long=True, fit=fit) for fit in view.fits]
    rows = [Row([_name(view, m), *(_cell(fit, m) for fit in view.fits)]) for m in metrics]
    folded = f"{len(metrics)} metrics of {formatting.words(len(view.fits))} fits"
    caption = (
        "± is one Monte Carlo standard error. Floor: what a perfect fit would score, for "
        "distances between draws as two sets of draws of the target do. Of several margins, "
        "modes or levels the worst is shown. A dash stands where the number does not exist; "
        "its reason is in results.json, and shown on hover."
    )
    return Section(
        "numbers",
        "All numbers",
        blocks=[Table(columns, rows, "numbers", caption=caption, folded=folded)],
    )


def _name(view: View, metric: str) -> Cell:
    entries = (fit.data["metrics"].get(metric) for fit in view.fits)
    unit = next(entry["unit"] for entry in entries if entry)
    told = definition(metric)
    name = NAMES.get(metric, metric.replace("_", " "))
    return Cell(f"{name}{UNITS.get(unit, '')}", (told,) if told else ())


def _cell(fit: FitView, metric: str) -> Cell:
    reading = fit.reading(metric)
    if reading.value is None:
        return Cell("–", title=reading.reason)
    cell = measured(reading)
    floor = fit.data["metrics"][metric].get("floor")
    more = () if floor is None else (f"floor {formatting.plain(floor, 2)}",)
    return Cell(cell.text, (*cell.below, *more), value=cell.value, error=cell.error)


@cache
def definition(metric: str) -> str:
    """First docstring line of its `measure`; "" for one that this version does not have.

    Read and not imported: metrics need JAX, and a page of saved results does not.
    """
    entry = catalogue.entries("metrics").get(metric.replace("_", "-"))
    if entry is None or entry.distribution:
        return ""
    source = files("vi_compare.metrics").joinpath(f"{metric}.py").read_text(encoding="utf-8")
    for node in ast.parse(source).body:
        if isinstance(node, ast.FunctionDef) and node.name == "measure":
            return (ast.get_docstring(node) or "").partition("\n")[0]
    return ""
