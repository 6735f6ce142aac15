"""Every fit on every yardstick, and whether each won the one that it was trained on."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from vi_compare import formatting
from vi_compare.report.blocks import Cell, Column, Note, Row, Section, Table, measured, name_of
from vi_compare.report.view import FitView, View

ORDER = 40
METRICS = (
    "forward_kl",
    "reverse_kl",
    "jeffreys",
    "jensen_shannon",
    "amari_half",
    "total_variation",
    "wasserstein",
)


def section(view: View) -> Section | None:
    if not view.has_reference:
        return None
    columns = [Column.words("Fit"), *(Column.of(view.abouts[metric]) for metric in METRICS)]
    rows = [Row(_cells(view, fit), fit) for fit in view.fits]
    lead = (
        "Rows are fits, columns are yardsticks. The outlined cell is the divergence that the fit "
        "was trained on."
    )
    caption = (
        "In nats with one standard error, bits below. Jensen-Shannon, Amari ½ and total variation "
        "are means over draws of both sides. W₁ is of the margin where it is largest, beside its "
        "floor: what two sets of draws of the target would show."
    )
    table = Table(columns, rows, "matrix", caption=caption)
    return Section("matrix", "Divergence matrix", lead, [table, _check(view)])


def _cells(view: View, fit: FitView) -> list[Cell]:
    cells = [
        replace(_cell(fit, metric), outlined=fit.trained_on in view.abouts[metric].trained_by)
        for metric in METRICS
    ]
    return [name_of(fit, about=True), *cells]


def _cell(fit: FitView, metric: str) -> Cell:
    reading = fit.reading(metric)
    cell = measured(reading)
    if reading.value is None or reading.about is None:
        return cell
    if reading.about.unit == "nats":
        bits = reading.in_bits()
        below: tuple[str, ...] = (f"{formatting.pair(bits.value or 0.0, bits.error)[0]} bits",)
    else:
        floor = fit.data["metrics"][metric].get("floor")
        below = () if floor is None else (f"floor {formatting.fixed(floor, 3)}",)
    return replace(cell, below=(*cell.below, *below))


def _check(view: View) -> Note:
    """Within a family of guides, whoever was trained on a column should win it."""
    held: list[str] = []
    broken: list[str] = []
    for metric in METRICS:
        about = view.abouts[metric]
        for fit in view.fits:
            if fit.trained_on not in about.trained_by:
                continue
            beaten = _beaten(view, metric, fit)
            if beaten is not None:
                told = f"{formatting.quoted(fit.name)} on {about.heading}"
                (broken if beaten else held).append(told + beaten)
    if broken:
        text = (
            f"{formatting.listed(broken)}: its optimum was not reached, or it saw too few draws of "
            "the target."
        )
        return Note(text, "Diagonal check failed", True, mark="bad")
    if not held:
        text = "No two fits share a guide, one of them trained on a column of this table."
        return Note(text, "No diagonal check.", True)
    text = (
        "Among fits with the same guide, each is the best, within two standard errors, on the "
        f"divergence that it was trained on: {formatting.listed(held)}."
    )
    return Note(text, "Diagonal check passed", True, mark="good")


def _beaten(view: View, metric: str, fit: FitView, apart: float = 2.0) -> str | None:
    """Which fit of the same guide is better, by more than `apart` standard errors of the
    difference, in words; "" for none, None without rivals."""
    mine = fit.reading(metric)
    rivals = [
        (f, r)
        for f in view.fits
        if f is not fit and f.data["guide"] == fit.data["guide"]
        if (r := f.reading(metric)).value is not None
    ]
    if mine.value is None or mine.about is None or not rivals:
        return None
    badness = mine.about.badness
    best, theirs = min(rivals, key=lambda pair: badness(pair[1].value or 0.0))
    error = float(np.hypot(mine.error or 0.0, theirs.error or 0.0))
    if badness(mine.value) - badness(theirs.value or 0.0) <= apart * error:
        return ""
    ours, other = (formatting.with_error(r.value or 0.0, r.error) for r in (mine, theirs))
    return f" ({ours}) is beaten by {formatting.quoted(best.name)} ({other})"
