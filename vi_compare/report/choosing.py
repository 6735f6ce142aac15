"""Which fit to use for what: ranked by what is measured, and not ranked within error."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from vi_compare import formatting
from vi_compare.report.marks import SCALES
from vi_compare.report.view import FitView

# Closer than this many standard errors of their difference, fits are not ranked.
APART = 2.0


@dataclass(frozen=True)
class Said:
    """A number in a sentence.

    Attributes:
        metric: what is measured; `shown`: a sentence around its {value}.
        percent: whether the value is shown in per cent.
    """

    metric: str
    shown: str
    percent: bool = False

    def text(self, fit: FitView) -> str:
        """ "" where the fit has no such number."""
        reading = fit.reading(self.metric)
        if reading.value is None:
            return ""
        write = formatting.percent if self.percent else formatting.with_error
        return self.shown.format(value=write(reading.value, reading.error))


def itself(value: float) -> float:
    return value


@dataclass(frozen=True)
class Criterion(Said):
    """A number that decides which fit serves; the smaller its `loss`, the safer."""

    loss: Callable[[float], float] = itself


@dataclass(frozen=True)
class Runner:
    """A fit that a task can be judged for.

    Attributes:
        fit: it.
        loss: the smaller, the safer.
        lower, higher: how far `APART` standard errors of what it is made from could move it.
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


def rank(fits: Sequence[FitView], by: Criterion) -> Ranking | None:
    """None where no fit has the metric."""
    runners = [r for r in (_runner(fit, by) for fit in fits) if r]
    if not runners:
        return None
    runners.sort(key=lambda r: r.loss)
    best, worst = runners[0], runners[-1]
    safest = [r for r in runners if not r.apart(best)]
    avoid = [
        r for r in reversed(runners) if not r.apart(worst) and r.apart(best) and r.mark != "good"
    ]
    return Ranking(tuple(safest), tuple(avoid), len(safest) == len(runners) > 1)


def _runner(fit: FitView, by: Criterion) -> Runner | None:
    reading = fit.reading(by.metric)
    if reading.value is None:
        return None
    value, error = reading.value, reading.error or 0.0
    loss = by.loss(value)
    # Not in proportion to one error: from an empty tail the first one leaps on a log scale.
    ends = [by.loss(value + s * APART * error) - loss for s in (-1, 0, 1)]
    mark = SCALES[by.metric].mark(reading)
    return Runner(fit, loss, -min(ends), max(ends), by.text(fit), mark)


def fold(value: float) -> float:
    """How far a ratio is from 1, on a log scale."""
    return abs(float(np.log(max(value, 1e-3))))
