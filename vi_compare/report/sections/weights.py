"""What importance weights can repair, and what they cannot see."""

from __future__ import annotations

from vi_compare import formatting
from vi_compare.psis import khat_limit
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
    name_of,
    unconfirmed,
)
from vi_compare.report.figures.khat import shapes
from vi_compare.report.view import FitView, View

ORDER = 70

METRICS = ("khat", "ess", "missed_mass")


def section(view: View) -> Section:
    columns = [Column.words("Fit"), *(Column.of(view.abouts[metric]) for metric in METRICS)]
    rows = [Row(_cells(view, fit), fit) for fit in view.fits]
    caption = "ESS: effective share of the draws once they carry the weights p/q. " + _limit(view)
    readings = [(f, f.reading("khat")) for f in view.drawn]
    drawn = [(f, r.value, r.error or 0.0) for f, r in readings if r.value is not None]
    blocks: list = []
    if drawn:
        picture = Picture(
            shapes(drawn, khat_limit(next((r.n for _, r in readings if r.n), 10_000)))
        )
        how = (
            "Left of the dashed line the draws can be reweighted to the target, as far as they "
            "reach it."
        )
        blocks.append(Pictures([picture], how, tuple(f for f, _, _ in drawn)))
    beware = (
        "k̂ and ESS look only where q goes; they cannot see a mode that q never visits. So the "
        "missed mass, which uses draws of the target, stands beside them."
    )
    note = Note(f"{beware}{_example(view)}", "Beware.", True)
    return Section(
        "weights",
        "Importance weights",
        blocks=[*blocks, note, Table(columns, rows, "weights", caption=caption)],
    )


def _cells(view: View, fit: FitView) -> list[Cell]:
    numbers_of = [measured(fit.reading(metric), marked=True) for metric in METRICS]
    # A good k̂ alone confirms nothing.
    return [name_of(fit), *(numbers_of if view.confirms else unconfirmed(numbers_of))]


def _limit(view: View) -> str:
    n = next((n for f in view.fits if (n := f.reading("khat").n)), None)
    return (
        ""
        if n is None
        else f"The limit for {formatting.count(n)} draws is "
        f"k̂ = {formatting.fixed(khat_limit(n), 2)}."
    )


def _example(view: View) -> str:
    """A fit whose k̂ looks well while it misses mass, if there is one."""
    blind = [f for f in view.fits if _blind(f)]
    if not blind:
        return ""
    fit = max(blind, key=lambda f: f.reading("missed_mass").value or 0.0)
    khat, missed = fit.reading("khat"), fit.reading("missed_mass")
    return (
        f" Here: {fit.name} has k̂ = {formatting.fixed(khat.value or 0.0, 2)} and misses "
        f"{formatting.percent(missed.value or 0.0, missed.error)} of the target."
    )


def _blind(fit: FitView) -> bool:
    khat, missed = fit.reading("khat"), fit.reading("missed_mass")
    return khat.value is not None and khat.value < khat_limit(khat.n or 0) and missed.mark == "bad"
