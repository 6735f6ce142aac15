"""How the optimum was reached, and whether it was."""

from __future__ import annotations

from typing import Any

import numpy as np

from vi_compare import formatting
from vi_compare.report.blocks import (
    Cell,
    Column,
    Note,
    Picture,
    Pictures,
    Row,
    Section,
    Table,
    measured,
    missing,
    name_of,
)
from vi_compare.report.figures.losses import losses
from vi_compare.report.view import FitView, Reading, View
from vi_compare.verdict import Status


def section(view: View) -> Section:
    fitted = [f for f in view.fits if not f.given]
    nothing = Note("All parameters were given; nothing was fitted.")
    lead, blocks = _reached(view, fitted) if fitted else ("", [nothing])
    return Section("optimisation", "Optimisation", lead, blocks, order=50)


def _reached(view: View, fitted: list[FitView]) -> tuple[str, list]:
    """The lead and what follows it."""
    drawn = [f for f in view.drawn if f in fitted]
    pictures = [p for p in map(_picture, drawn) if p]
    how = (
        "Strong line: the restart that was chosen. Faint: the others. Shaded: the steps over "
        "which the loss was tested to have stopped falling. Means over neighbouring steps; the "
        "first steps may run out of the top. Different divergences have different scales: compare "
        "shapes, not heights."
    )
    blocks: list = [Pictures(pictures, how)] if pictures else []
    lead = "The restart with the smallest loss on draws that all restarts share is the fit."
    return f"{lead} {view.left_out}".strip(), [*blocks, _ends(fitted), *_basins(fitted)]


def _picture(fit: FitView) -> Picture | None:
    chosen = fit.data.get("chosen")
    if fit.node is None or "optimisation" not in fit.node.children:
        return None
    loss = np.asarray(fit.node["optimisation"]["loss"].values, dtype=float)
    if chosen is None or not np.isfinite(loss[chosen]).any():
        return None
    tested = fit.data["settings"].get("tested_steps", 0)
    return Picture(losses(fit, loss, chosen, tested), fit=fit)


def _ends(fits: list[FitView]) -> Table:
    columns = [
        Column.words("Fit"),
        Column.words("Ended"),
        Column("Restarts", "in the best optimum"),
        Column.words("In words"),
    ]
    return Table(columns, [Row(_end(fit), fit) for fit in fits], "optimisation")


def _end(fit: FitView) -> list[Cell]:
    status, restarts = fit.data["status"], fit.data["restarts"]
    best = sum(r["basin"] == 0 for r in restarts)
    share = (
        Cell(f"{best} of {len(restarts)}", value=best)
        if restarts
        else missing("there were no restarts")
    )
    ended = Cell(status, mark=_mark(status))
    return [name_of(fit), ended, share, Cell(_sentence(fit))]


def _mark(status: str) -> str:
    match status:
        case Status.CONVERGED:
            return "good"
        case Status.NOT_CONVERGED | Status.UNKNOWN:
            return "near"
        case Status.FAILED:
            return "bad"
    return ""


def _sentence(fit: FitView) -> str:
    message, remedy = fit.data["message"], fit.data["remedy"]
    words = f"{message}; {remedy}" if remedy else message
    return f"{words[:1].upper()}{words[1:]}."


def _basins(fits: list[FitView]) -> list[Table]:
    rows = []
    for fit in fits:
        basins = [b for b in fit.data.get("basins", []) if b["loss"] is not None]
        rows += [Row(_optimum(fit, basin, basins[0]), fit) for basin in basins]
    if not rows:
        return []
    columns = [
        Column.words("Fit"),
        Column("Optimum"),
        Column("Loss", "nats"),
        Column("Above", "the best"),
        Column("Restarts"),
    ]
    caption = (
        "Two restarts count as one optimum when their fits differ by little in KL, not when their "
        "losses do."
    )
    return [Table(columns, rows, "optima", "Optima that the restarts found", caption)]


def _optimum(fit: FitView, basin: dict[str, Any], best: dict[str, Any]) -> list[Cell]:
    number, above = basin["basin"] + 1, basin["loss"] - best["loss"]
    return [
        name_of(fit),
        Cell(str(number), value=number),
        measured(Reading(basin["loss"], basin["standard_error"])),
        Cell("best" if basin is best else f"+{formatting.plain(above, 2)}", value=above),
        Cell(str(basin["restarts"]), value=basin["restarts"]),
    ]
