"""Asymmetric risk: which mistake a fit makes, and which fit to use for what."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from vi_compare import formatting
from vi_compare.report.blocks import (
    Cell,
    Column,
    Row,
    Section,
    Table,
    measured,
    missing,
    name_of,
    unconfirmed,
)
from vi_compare.report.choosing import Runner, Said, rank
from vi_compare.report.marks import SIGNS
from vi_compare.report.view import FitView, View

# What is shown of every fit: what it misses and invents, then its intervals and tails.
METRICS = ("missed_mass", "invented_mass", "coverage", "width_ratio", "tail_mass")


@dataclass(frozen=True)
class Task:
    """Something to want.

    Attributes:
        words: what; `protects`: the divergence that guards it, and why.
        by: what decides who serves it.
        margins: whether it rests on margins: then on those that a study judges by, where it
            names some, as the advice at the top of the page does.
    """

    words: str
    protects: str
    by: Said
    margins: bool = False


TASKS = (
    Task("report an interval", "forward KL: its price for dropped mass has no limit",
         Said("coverage", "its 90 % holds {value}"), margins=True),
    Task("give the probability of an extreme value", "forward KL: it asks for tails like p's",
         Said("tail_mass", "{value} × the target's tails")),
    Task("find every explanation", "forward KL, among guides that can hold them all",
         Said("mode_coverage", "{value} of its share for the worst mode")),
    Task("generate plausible draws, one at a time",
         "reverse KL: its price for invented mass has no limit",
         Said("invented_mass", "{value} invented")),
    Task("propose for importance sampling",
         "forward KL: about exp KL(p‖q) draws do the work of one of the target's",
         Said("forward_kl", "KL(p‖q) {value} nats")),
    Task("describe one explanation well", "reverse KL: it may drop the others at little cost",
         Said("reverse_kl", "KL(q‖p) {value} nats")),
)  # fmt: skip


def section(view: View) -> Section | None:
    if not view.has_reference:
        return None
    lead = (
        "The two KLs are not rival estimates of one error. They price two different mistakes; "
        "here is what each costs whoever uses the fit in place of the target."
    )
    blocks = [_measured(view)]
    if sum(not fit.failed for fit in view.fits) > 1:
        blocks.append(_advice(view))
    return Section("risk", "Asymmetric risk", lead, blocks, order=30)


def _measured(view: View) -> Table:
    columns = [Column.words("Fit"), *(Column.of(view.abouts[metric]) for metric in METRICS)]
    rows = [Row(_cells(view, fit), fit) for fit in view.fits]
    caption = (
        "Missed mass: share of the target outside the fit's 99 % highest-density set; invented "
        "mass: the same with roles swapped; 1 % is perfect for both. Scale alone: what a Gaussian "
        "would miss or invent whose scale, and nothing else, is off as the fit's is; in many "
        "dimensions little is enough. Tail: mass beyond the target's 0.5 % and 99.5 % quantiles. "
        "Where there are several margins the worst is shown."
    )
    return Table(columns, rows, "risk", caption=caption)


def _cells(view: View, fit: FitView) -> list[Cell]:
    cells = [
        _beside_scale(fit, metric, measured(fit.reading(metric), marked=True)) for metric in METRICS
    ]
    return [name_of(fit, about=True), *(cells if view.confirms else unconfirmed(cells))]


def _beside_scale(fit: FitView, metric: str, cell: Cell) -> Cell:
    """The cell, with what the fit's scale alone would give where that is known."""
    by_scale = {"missed_mass": "missed_by_scale", "invented_mass": "invented_by_scale"}
    if metric not in by_scale or cell.value is None:
        return cell
    alone = fit.reading(by_scale[metric])
    if alone.value is None:
        return cell
    return replace(cell, below=(*cell.below, f"scale alone {formatting.percent(alone.value)}"))


def _advice(view: View) -> Table:
    columns = [
        Column.words("Task"),
        Column.words("What protects you"),
        Column.words("Safest fit here"),
        Column.words("Avoid"),
    ]
    rows = [Row(_task(view, task)) for task in TASKS]
    caption = (
        "From the numbers of this run, whatever a fit was trained on. Fits within two standard "
        "errors of the safest stand beside it, and a fit is to be avoided only where its number is "
        "not ✓. The safest fit need not be a good one: look at its mark."
    )
    return Table(columns, rows, "", "If you want to …", caption)


def _task(view: View, task: Task) -> list[Cell]:
    narrow = task.margins and view.judged_entries
    words = f"{task.words} of {view.judged_names}" if narrow else task.words
    chosen = _choice(view.narrowed(task.by.metric) if narrow else view, task)
    return [Cell(words), Cell(task.protects), *chosen]


def _choice(view: View, task: Task) -> list[Cell]:
    """The cells of the safest fits, and of those to avoid."""
    found = rank(view.fits, task.by)
    if found is None:
        reason = next((r for f in view.fits if (r := f.reading(task.by.metric).reason)), "")
        return [missing(reason), missing(reason)]
    if found.tied:
        return [Cell("no difference within error", title=_note(found.safest[0])), Cell("–")]
    return [_named(found.safest), _named(found.avoid)]


def _note(runner: Runner) -> str:
    """ "✗ its 90 % holds 63.6 %", as stands below a fit's name."""
    return f"{SIGNS[runner.mark]} {runner.shown}".strip()


def _named(runners: Sequence[Runner], most: int = 3) -> Cell:
    """The names of the first `most`; more are counted."""
    if not runners:
        return Cell("–")
    more = len(runners) - most
    names = ", ".join(r.fit.name for r in runners)
    return Cell(
        names,
        (f"and {more} more within error",) if more > 0 else (),
        fits=tuple((r.fit, _note(r)) for r in runners[:most]),
    )
