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
from vi_compare.report.choosing import Criterion, Runner, fold, rank
from vi_compare.report.marks import SCALES, SIGNS
from vi_compare.report.view import FitView, View

# Fits named in one cell; more are counted.
MOST_NAMED = 3

# metric, heading, second line, shown in per cent, what it is
METRICS = (
    ("missed_mass", "Missed", "mass", True, "target mass where the fit has almost nothing"),
    ("invented_mass", "Invented", "mass", True, "mass of the fit where the target has almost none"),
    ("coverage", "90 % interval", "holds", True, "target mass inside the fit's 90 % interval"),
    ("width_ratio", "Length", "÷ target", False, "length of the 90 % interval, fit ÷ target"),
    (
        "tail_mass",
        "Tail",
        "÷ target",
        False,
        "mass beyond the target's 0.5 % or 99.5 % quantile, the worse side",
    ),
)


# beside which stands what the fit's scale alone would give
BY_SCALE = {"missed_mass": "missed_by_scale", "invented_mass": "invented_by_scale"}


@dataclass(frozen=True)
class Task:
    """Something to want.

    Attributes:
        words: what; `protects`: the divergence that guards it, and why.
        by: what decides who serves it.
    """

    words: str
    protects: str
    by: Criterion


TASKS = (
    Task("report an interval", "forward KL: its price for dropped mass has no limit",
         Criterion("coverage", "its 90 % holds {value}", True, lambda v: abs(v - 0.9))),
    Task("give the probability of an extreme value", "forward KL: it asks for tails like p's",
         Criterion("tail_mass", "{value} × the target's tails", loss=fold)),
    Task("find every explanation", "forward KL, among guides that can hold them all",
         Criterion("mode_coverage", "{value} of its share for the worst mode", True,
                   lambda v: -v)),
    Task("generate plausible draws, one at a time",
         "reverse KL: its price for invented mass has no limit",
         Criterion("invented_mass", "{value} invented", True)),
    Task("propose for importance sampling",
         "forward KL: about exp KL(p‖q) draws do the work of one of the target's",
         Criterion("forward_kl", "KL(p‖q) {value} nats")),
    Task("describe one explanation well", "reverse KL: it may drop the others at little cost",
         Criterion("reverse_kl", "KL(q‖p) {value} nats")),
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
    columns = [Column.words("Fit")]
    columns += [Column(head, unit, title=title) for _, head, unit, _, title in METRICS]
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
        _beside_scale(
            fit, metric, measured(fit.reading(metric), SCALES.get(metric), percent=percent)
        )
        for metric, _, _, percent, _ in METRICS
    ]
    return [name_of(fit, about=True), *(cells if view.confirms else unconfirmed(cells))]


def _beside_scale(fit: FitView, metric: str, cell: Cell) -> Cell:
    """The cell, with what the fit's scale alone would give where that is known."""
    if metric not in BY_SCALE or cell.value is None:
        return cell
    alone = fit.reading(BY_SCALE[metric])
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
    rows = [Row([Cell(t.words), Cell(t.protects), *_choice(view, t)]) for t in TASKS]
    caption = (
        "From the numbers of this run, whatever a fit was trained on. Fits within two standard "
        "errors of the safest stand beside it, and a fit is to be avoided only where its number is "
        "not ✓. The safest fit need not be a good one: look at its mark."
    )
    return Table(columns, rows, "", "If you want to …", caption)


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


def _named(runners: Sequence[Runner]) -> Cell:
    if not runners:
        return Cell("–")
    more = len(runners) - MOST_NAMED
    names = ", ".join(r.fit.name for r in runners)
    return Cell(
        names,
        (f"and {more} more within error",) if more > 0 else (),
        fits=tuple((r.fit, _note(r)) for r in runners[:MOST_NAMED]),
    )
