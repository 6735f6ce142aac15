"""Every fit on the same scale."""

from __future__ import annotations

from dataclasses import replace

from vi_compare import formatting
from vi_compare.report.blocks import (
    Cell,
    Column,
    Row,
    Section,
    Table,
    bounds_among,
    measured,
    missing,
    name_of,
    unconfirmed,
)
from vi_compare.report.view import FitView, Reading, View

# What is shown after the KLs.
METRICS = (
    "missed_mass",
    "invented_mass",
    "mode_coverage",
    "coverage",
    "mean_shift",
    "sd_ratio",
    "khat",
)


def section(view: View) -> Section:
    relative = _relative(view)
    shown = ("forward_kl", "elbo" if relative else "reverse_kl", *METRICS)
    columns = [Column.words("Fit"), *(Column.of(view.abouts[metric]) for metric in shown)]
    columns += [Column("Time", "s", title="compilation and run together")]
    rows = [Row(_confirmed(view, _cells(fit, shown)), fit) for fit in view.fits]
    caption = (
        "✓ within the limit, ! near it, ✗ outside; limits stand under Reproduce. "
        "± is one Monte Carlo standard error. Where there are several margins the worst is shown."
    )
    caption += bounds_among(fit.reading(metric) for fit in view.fits for metric in shown)
    if relative:
        caption += (
            " The target is not normalised, so an absolute reverse KL does not exist; differences "
            "in ELBO between two fits are differences in reverse KL."
        )
    return Section(
        "scoreboard",
        "Scoreboard",
        blocks=[Table(columns, rows, "scoreboard", caption=caption)],
        order=0,
    )


def _confirmed(view: View, cells: list[Cell]) -> list[Cell]:
    return cells if view.confirms else unconfirmed(cells)


def _relative(view: View) -> bool:
    """Whether only differences in reverse KL can be known, not reverse KL itself."""
    known = lambda metric: any(f.reading(metric).value is not None for f in view.fits)
    return not known("reverse_kl") and known("elbo")


def _cells(fit: FitView, shown: tuple[str, ...]) -> list[Cell]:
    special = {"mode_coverage": _covered, "forward_kl": _nats, "reverse_kl": _nats}
    cells = (special.get(m, _plain)(fit.reading(m), fit) for m in shown)
    return [name_of(fit, about=True), *cells, _time(fit)]


def _plain(reading: Reading, _fit: FitView) -> Cell:
    return measured(reading, marked=True)


def _nats(reading: Reading, _fit: FitView) -> Cell:
    cell, bits = measured(reading, marked=True), reading.in_bits()
    if bits.value is None:
        return cell
    return replace(cell, below=(*cell.below, f"{formatting.pair(bits.value, bits.error)[0]} bits"))


def _covered(reading: Reading, fit: FitView) -> Cell:
    """How many of the modes that count the fit has."""
    labels = fit.data["metrics"].get("mode_coverage", {}).get("by", {})
    marks = [fit.reading("mode_coverage", label).mark for label in labels]
    if reading.value is None or reading.about is None or not marks:
        return missing(reading.reason or "no mode is large enough to be counted")
    k = sum(mark != "bad" for mark in marks)
    title = f"modes of at least {100 * reading.about.counts_from:g} % of the target"
    return Cell(
        f"{k}/{len(marks)}", (), "good" if k == len(marks) else "bad", title, k / len(marks)
    )


def _time(fit: FitView) -> Cell:
    if fit.given:
        return Cell("–", title="given: nothing was fitted")
    return Cell(formatting.seconds(fit.seconds), value=fit.seconds)
