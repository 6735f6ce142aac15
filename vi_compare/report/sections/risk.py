"""Asymmetric risk: which mistake a fit makes, and which fit to use for what."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from vi_compare import numbers
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
from vi_compare.report.marks import SCALES, SIGNS
from vi_compare.report.view import COVERED, FitView, View

ORDER = 30
# Fits named in one cell; more are counted.
MOST_NAMED = 3
# Closer than this many standard errors of their difference, fits are not ranked.
APART = 2.0

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
    """Something to want, and what decides who serves it.

    Attributes:
        words: what is wanted; `protects`: the divergence that guards it, and why.
        metric: what is measured; `shown`: a sentence around its {value}.
        loss: of that metric's value; the smaller, the safer.
        percent: whether the value is shown in per cent.
    """

    words: str
    protects: str
    metric: str
    shown: str
    loss: Callable[[float], float]
    percent: bool = False


def _fold(value: float) -> float:
    return abs(float(np.log(max(value, 1e-3))))


TASKS = (
    Task("report an interval", "forward KL: its price for dropped mass has no limit",
         "coverage", "its 90 % holds {value}", lambda v: abs(v - 0.9), True),
    Task("give the probability of an extreme value", "forward KL: it asks for tails like p's",
         "tail_mass", "{value} × the target's tails", _fold),
    Task("find every explanation", "forward KL, among guides that can hold them all",
         "mode_coverage", "{value} of its share for the worst mode", lambda v: -v, True),
    Task("generate plausible draws, one at a time",
         "reverse KL: its price for invented mass has no limit",
         "invented_mass", "{value} invented", lambda v: v, True),
    Task("propose for importance sampling",
         "forward KL: about exp KL(p‖q) draws do the work of one of the target's",
         "forward_kl", "KL(p‖q) {value} nats", lambda v: v),
    Task("describe one explanation well", "reverse KL: it may drop the others at little cost",
         "reverse_kl", "KL(q‖p) {value} nats", lambda v: v),
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
    return Section("risk", "Asymmetric risk", lead, blocks)


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
    return replace(cell, below=(*cell.below, f"scale alone {numbers.percent(alone.value)}"))


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


@dataclass(frozen=True)
class Runner:
    """A fit that a task can be judged for: its loss, and how far `APART` standard errors of
    what it is made from could lower and raise it."""

    fit: FitView
    loss: float
    lower: float
    higher: float
    note: str
    good: bool

    def apart(self, other: Runner) -> bool:
        below, above = sorted((self, other), key=lambda runner: runner.loss)
        return above.loss - below.loss > float(np.hypot(below.higher, above.lower))


def _choice(view: View, task: Task) -> list[Cell]:
    """The cells of the safest fits, and of those to avoid."""
    runners = [r for r in (_runner(fit, task) for fit in view.fits) if r]
    if not runners:
        reason = next((r for f in view.fits if (r := f.reading(task.metric).reason)), "")
        return [missing(reason), missing(reason)]
    runners.sort(key=lambda r: r.loss)
    best, worst = runners[0], runners[-1]
    safest = [r for r in runners if not r.apart(best)]
    avoid = [r for r in reversed(runners) if not r.apart(worst) and r.apart(best) and not r.good]
    if len(safest) == len(runners) > 1:
        return [Cell("no difference within error", title=best.note), Cell("–")]
    return [_named(safest), _named(avoid)]


def _runner(fit: FitView, task: Task) -> Runner | None:
    reading = fit.reading(task.metric)
    if reading.value is None:
        return None
    value, error = reading.value, reading.error or 0.0
    loss = task.loss(value)
    # Not in proportion to one error: from an empty tail the first one leaps on a log scale.
    ends = [task.loss(value + s * APART * error) - loss for s in (-1, 0, 1)]
    mark = _mark(task, fit)
    text = numbers.percent(value, error) if task.percent else numbers.with_error(value, error)
    note = f"{SIGNS[mark]} {task.shown.format(value=text)}".strip()
    return Runner(fit, loss, -min(ends), max(ends), note, mark == "good")


def _mark(task: Task, fit: FitView) -> str:
    reading = fit.reading(task.metric)
    if task.metric == "mode_coverage":
        return "good" if (reading.value or 0.0) >= COVERED else "bad"
    return SCALES[task.metric].mark(reading)


def _named(runners: Sequence[Runner]) -> Cell:
    if not runners:
        return Cell("–")
    more = len(runners) - MOST_NAMED
    names = ", ".join(r.fit.name for r in runners)
    return Cell(
        names,
        (f"and {more} more within error",) if more > 0 else (),
        fits=tuple((r.fit, r.note) for r in runners[:MOST_NAMED]),
    )
