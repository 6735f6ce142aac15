"""Every fit on every yardstick, and whether each won the one that it was trained on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from vi_compare import numbers
from vi_compare.estimate import Estimate
from vi_compare.report import distances
from vi_compare.report.blocks import Cell, Column, Note, Row, Section, Table, measured, name_of
from vi_compare.report.ratios import Ratios
from vi_compare.report.view import FitView, Reading, View

ORDER = 40
# Numbers of draws × margins that one W₁ column sorts for a fit; enough for its error.
MOST_SORTED = 400_000
# A rival wins when it is better by this many standard errors of the difference.
APART = 2.0


@dataclass(frozen=True)
class Yardstick:
    """One column.

    Attributes:
        head, below, title: its heading.
        trained: divergences on the command line whose optimum this column has.
        measure: of (view, fit).
        unit: "nats" gets a line in bits.
    """

    head: str
    below: str
    title: str
    trained: tuple[str, ...]
    measure: Callable[[View, FitView], Reading]
    unit: str = "nats"


def section(view: View) -> Section | None:
    if not view.has_reference:
        return None
    readings = {f.css: [y.measure(view, f) for y in YARDSTICKS] for f in view.fits}
    columns = [Column.words("Fit")]
    columns += [Column(y.head, y.below, title=y.title) for y in YARDSTICKS]
    rows = [Row(_cells(fit, readings[fit.css]), fit) for fit in view.fits]
    lead = (
        "Rows are fits, columns are yardsticks. The outlined cell is the divergence that the fit "
        "was trained on."
    )
    caption = (
        "In nats with one standard error, bits below; from the draws that are saved. "
        "Jensen-Shannon, Rényi ½ and total variation are means over draws of both sides. W₁ is of "
        "the margin where it is largest, beside its floor: what two sets of draws of the target "
        "would show."
    )
    table = Table(columns, rows, "matrix", caption=caption)
    return Section("matrix", "Divergence matrix", lead, [table, _check(view, readings)])


def _cells(fit: FitView, readings: list[Reading]) -> list[Cell]:
    cells = [
        _cell(yardstick, reading) for yardstick, reading in zip(YARDSTICKS, readings, strict=True)
    ]
    marked = [
        replace(cell, outlined=fit.trained_on in yardstick.trained)
        for yardstick, cell in zip(YARDSTICKS, cells, strict=True)
    ]
    return [name_of(fit, about=True), *marked]


def _cell(yardstick: Yardstick, reading: Reading) -> Cell:
    cell = measured(reading)
    if reading.value is None:
        return cell
    if yardstick.unit != "nats":
        return replace(cell, below=(*cell.below, reading.reason)) if reading.reason else cell
    factor = 1 / numbers.LOG_2
    error = None if reading.error is None else factor * reading.error
    return replace(
        cell, below=(*cell.below, f"{numbers.pair(factor * reading.value, error)[0]} bits")
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
                told = f"{numbers.quoted(fit.name)} on {yardstick.head}"
                (broken if beaten else held).append(told + beaten)
    if broken:
        text = (
            f"{numbers.listed(broken)}: its optimum was not reached, or it saw too few draws of "
            "the target."
        )
        return Note(text, "Diagonal check failed", True, mark="bad")
    if not held:
        text = "No two fits share a guide, one of them trained on a column of this table."
        return Note(text, "No diagonal check.", True)
    text = (
        "Among fits with the same guide, each is the best, within two standard errors, on the "
        f"divergence that it was trained on: {numbers.listed(held)}."
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
    ours, other = (numbers.with_error(r.value, r.error) for r in (mine, theirs))
    return f" ({ours}) is beaten by {numbers.quoted(best.name)} ({other})"


def _metric(name: str) -> Callable[[View, FitView], Reading]:
    """As in the scoreboard: one quantity has one number on the page."""
    return lambda view, fit: fit.reading(name)


def _jeffreys(view: View, fit: FitView) -> Reading:
    ratios = Ratios.of(view, fit)
    if ratios.under_p is None or ratios.under_q is None:
        return Reading(None, reason=ratios.lacking)
    return _read(distances.jeffreys(ratios.under_p, ratios.under_q))


def _bounded(distance: Callable[..., Estimate]) -> Callable[[View, FitView], Reading]:
    """For distances that need p normalised."""

    def measure(view: View, fit: FitView) -> Reading:
        ratios = Ratios.of(view, fit)
        if ratios.under_p is None or ratios.under_q is None:
            return Reading(None, reason=ratios.lacking)
        if view.log_z is None:
            return Reading(None, reason="log Z of the target is not known")
        error = view.target["log_normalizer"]["standard_error"] or 0.0
        sides = (ratios.under_p - view.log_z, ratios.under_q - view.log_z)
        return _read(distance(*sides, error))

    return measure


def _wasserstein(view: View, fit: FitView) -> Reading:
    p, q = view.reference, fit.margins
    if not p or not q:
        return Reading(None, reason=f"the {'fit' if p else 'target'} has no draws")
    step = max(1, -(-len(next(iter(p.values()))) * len(p) // MOST_SORTED))
    found = []
    for label, x in p.items():
        sd = float(x.std())
        if sd > 0 and label in q:
            scaled = distances.wasserstein(x[::step] / sd, q[label][::step] / sd)
            found.append((scaled, label))
    if not found:
        return Reading(None, reason="the target's draws do not vary")
    worst, label = max(found, key=lambda pair: pair[0].value or 0.0)
    where = f", {label}" if len(p) > 1 else ""
    floor = f"floor {numbers.fixed(worst.floor or 0.0, 3)}{where}"
    return Reading(worst.value, worst.standard_error, worst.n, floor)


def _read(estimate: Estimate) -> Reading:
    return Reading(estimate.value, estimate.standard_error, estimate.n, estimate.reason)


YARDSTICKS = (
    Yardstick("Forward KL", "KL(p‖q)", "E_p[log p − log q]", ("forward-kl",),
              _metric("forward_kl")),
    Yardstick("Reverse KL", "KL(q‖p)", "E_q[log q − log p]", ("reverse-kl",),
              _metric("reverse_kl")),
    Yardstick("Jeffreys", "sum of both", "KL(p‖q) + KL(q‖p); log Z cancels", ("jeffreys",),
              _jeffreys),
    Yardstick("JS", "≤ 0.693", "Jensen-Shannon divergence", ("jensen-shannon",),
              _bounded(distances.jensen_shannon)),
    Yardstick("Rényi ½", "nats", "−2 log ∫ √(pq)", ("alpha:0.5",),
              _bounded(distances.renyi_half)),
    Yardstick("Total", "variation", "½ ∫ |p − q|", (), _bounded(distances.total_variation), "1"),
    Yardstick("W₁", "÷ sd", "Wasserstein distance of the worst margin, in sd of the target", (),
              _wasserstein, "sd"),
)  # fmt: skip
