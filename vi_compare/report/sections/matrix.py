"""Every fit on every yardstick, and whether each won the one that it was trained on."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from vi_compare import formatting
from vi_compare.report.blocks import Cell, Column, Note, Row, Section, Table, measured, name_of
from vi_compare.report.view import FitView, Reading, View

# A rival wins when it is better by this many standard errors of the difference.
APART = 2.0


@dataclass(frozen=True)
class Yardstick:
    """One column.

    Attributes:
        head, below, title: its heading.
        trained: divergences on the command line whose optimum this column has.
        metric: whose number it is, as everywhere on the page.
        unit: "nats" gets a line in bits.
    """

    head: str
    below: str
    title: str
    trained: tuple[str, ...]
    metric: str
    unit: str = "nats"


def section(view: View) -> Section | None:
    if not view.has_reference:
        return None
    readings = {f.css: [f.reading(y.metric) for y in YARDSTICKS] for f in view.fits}
    columns = [Column.words("Fit")]
    columns += [Column(y.head, y.below, title=y.title) for y in YARDSTICKS]
    rows = [Row(_cells(fit, readings[fit.css]), fit) for fit in view.fits]
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
    return Section("matrix", "Divergence matrix", lead, [table, _check(view, readings)], order=40)


def _cells(fit: FitView, readings: list[Reading]) -> list[Cell]:
    cells = [
        replace(_cell(fit, y, reading), outlined=fit.trained_on in y.trained)
        for y, reading in zip(YARDSTICKS, readings, strict=True)
    ]
    return [name_of(fit, about=True), *cells]


def _cell(fit: FitView, yardstick: Yardstick, reading: Reading) -> Cell:
    cell = measured(reading)
    if reading.value is None:
        return cell
    if yardstick.unit != "nats":
        floor = fit.data["metrics"][yardstick.metric].get("floor")
        below = () if floor is None else (f"floor {formatting.fixed(floor, 3)}",)
        return replace(cell, below=(*cell.below, *below))
    factor = 1 / formatting.LOG_2
    error = None if reading.error is None else factor * reading.error
    return replace(
        cell, below=(*cell.below, f"{formatting.pair(factor * reading.value, error)[0]} bits")
    )


def _check(view: View, readings: dict[str, list[Reading]]) -> Note:
    """Within a family of guides, whoever was trained on a column should win it."""
    held: list[str] = []
    broken: list[str] = []
    for i, yardstick in enumerate(YARDSTICKS):
        for fit in view.fits:
            if fit.trained_on not in yardstick.trained:
                continue
            beaten = _beaten(view, readings, i, fit)
            if beaten is not None:
                told = f"{formatting.quoted(fit.name)} on {yardstick.head}"
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


def _beaten(view: View, readings, i: int, fit: FitView) -> str | None:
    """Who of the same guide is better, in words; "" for nobody, None without rivals."""
    mine = readings[fit.css][i]
    rivals = [
        (f, r)
        for f in view.fits
        if f is not fit and f.data["guide"] == fit.data["guide"]
        if (r := readings[f.css][i]).value is not None
    ]
    if mine.value is None or not rivals:
        return None
    best, theirs = min(rivals, key=lambda pair: pair[1].value)
    error = float(np.hypot(mine.error or 0.0, theirs.error or 0.0))
    if mine.value - theirs.value <= APART * error:
        return ""
    ours, other = (formatting.with_error(r.value, r.error) for r in (mine, theirs))
    return f" ({ours}) is beaten by {formatting.quoted(best.name)} ({other})"


YARDSTICKS = (
    Yardstick("Forward KL", "KL(p‖q)", "E_p[log p − log q]", ("forward-kl",), "forward_kl"),
    Yardstick("Reverse KL", "KL(q‖p)", "E_q[log q − log p]", ("reverse-kl",), "reverse_kl"),
    Yardstick("Jeffreys", "sum of both", "KL(p‖q) + KL(q‖p); log Z cancels", ("jeffreys",),
              "jeffreys"),
    Yardstick("JS", "≤ 0.693", "Jensen-Shannon divergence", ("jensen-shannon",),
              "jensen_shannon"),
    Yardstick("Amari ½", "≤ 4", "4 (1 − ∫ √(pq)), midway between the KLs", ("alpha:0.5",),
              "amari_half"),
    Yardstick("Total", "variation", "½ ∫ |p − q|", (), "total_variation", ""),
    Yardstick("W₁", "÷ sd", "Wasserstein distance of the worst margin, in sd of the target", (),
              "wasserstein", ""),
)  # fmt: skip
