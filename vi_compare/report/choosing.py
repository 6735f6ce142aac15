"""Which fit to use for what: ranked by what is measured, and not ranked within error."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from vi_compare import formatting
from vi_compare.report.view import FitView


@dataclass(frozen=True)
class Said:
    """A number in a sentence.

    Attributes:
        metric: what is measured; `shown`: a sentence around its {value}, in which the fit is
            {it}, what it has is {its}, and {it} {has} it.
    """

    metric: str
    shown: str

    def text(self, fit: FitView, many: bool = False) -> str:
        """ "" where the fit has no such number; `many`: said of several fits."""
        reading = fit.reading(self.metric)
        if reading.value is None:
            return ""
        write = formatting.percent if reading.percent else formatting.with_error
        it, its, has = ("they", "their", "have") if many else ("it", "its", "has")
        value = write(reading.value, reading.error)
        return self.shown.format(value=value, it=it, its=its, has=has)


@dataclass(frozen=True)
class Runner:
    """A fit that a task can be judged for.

    Attributes:
        fit: it.
        loss: the metric's badness; the smaller, the safer.
        lower, higher: how far it could be moved by the standard errors that tell fits apart.
        shown: what was measured, in words.
        mark: of the metric.
    """

    fit: FitView
    loss: float
    lower: float
    higher: float
    shown: str
    mark: str

    def apart(self, other: Runner) -> bool:
        below, above = sorted((self, other), key=lambda runner: runner.loss)
        return above.loss - below.loss > float(np.hypot(below.higher, above.lower))


@dataclass(frozen=True)
class Ranking:
    """Who serves a task.

    Attributes:
        safest: the best, and those within error of it.
        avoid: the worst, and those within error of it, as far as their numbers are not good.
        tied: whether no fit differs from any other within error.
    """

    safest: tuple[Runner, ...]
    avoid: tuple[Runner, ...]
    tied: bool


def rank(fits: Sequence[FitView], by: Said, apart: float = 2.0) -> Ranking | None:
    """The fits in the order of a metric, the best first; None where no fit has it.

    Args:
        apart: closer than this many standard errors of their difference, fits are not ranked.
    """
    runners = [r for r in (_runner(fit, by, apart) for fit in fits) if r]
    if not runners:
        return None
    runners.sort(key=lambda r: r.loss)
    best, worst = runners[0], runners[-1]
    safest = [r for r in runners if not r.apart(best)]
    avoid = [
        r for r in reversed(runners) if not r.apart(worst) and r.apart(best) and r.mark != "good"
    ]
    return Ranking(tuple(safest), tuple(avoid), len(safest) == len(runners) > 1)


def _runner(fit: FitView, by: Said, apart: float) -> Runner | None:
    reading = fit.reading(by.metric)
    if reading.value is None or reading.about is None:
        return None
    value, error, badness = reading.value, reading.error or 0.0, reading.about.badness
    loss = badness(value)
    # Not in proportion to one error: from an empty tail the first one leaps on a log scale.
    ends = [badness(value + s * apart * error) - loss for s in (-1, 0, 1)]
    return Runner(fit, loss, -min(ends), max(ends), by.text(fit), reading.mark)
