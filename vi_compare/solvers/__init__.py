"""How the optimum is reached: one solver a file.

A file exports ``suits(guide, divergence) -> rank | None`` (the highest rank is the
default for the pair) and ``build(...) -> Solver`` (its options are build's).

A solver gets a `Problem`, whose guide has been set up, and returns a `Fit`. It counts its own
evaluations of log p, where it can; what it took in seconds is measured by who calls it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import astuple, dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jax import Array

from vi_compare.approximation import (
    DrawsApproximation,
    GuideApproximation,
    is_set_up,
    set_up,
)
from vi_compare.estimate import Estimate
from vi_compare.target import Target
from vi_compare.verdict import Status

# called with (done, total, what) as a solver goes on; a total of None: nobody knows
Progress = Callable[[int, int | None, str], None]


def quiet(done: int, total: int | None, what: str) -> None:
    """A progress that shows nothing."""


@dataclass(frozen=True)
class Problem:
    """What a solver solves.

    Attributes:
        target: p.
        guide: whose parameters are to be found, set up on this target; None for draws that
            were made elsewhere.
        divergence: what "closest" means; None where nothing is to be fitted.
        key: of all random numbers of the solver.
        restarts: from how many places to start.
        progress: told how it goes on.

    Raises:
        ValueError: for an ``AutoGuide`` that has not been set up, as its first call, made
            inside compiled code, would leave dead tracers in it; `Problem.of` sets it up.
    """

    target: Target
    guide: Any
    divergence: Any
    key: Array
    restarts: int
    progress: Progress = quiet

    def __post_init__(self):
        if not is_set_up(self.guide):
            name = type(self.guide).__name__
            raise ValueError(
                f"{name} has not been set up; make the problem by Problem.of, or call "
                f"vi_compare.approximation.set_up(guide, target, key) first"
            )

    @classmethod
    def of(
        cls,
        target: Target,
        guide: Any,
        divergence: Any,
        key: Array,
        restarts: int,
        progress: Progress = quiet,
    ) -> Problem:
        """The problem, its guide set up where it was not."""
        set_up(guide, target, key)
        return cls(target, guide, divergence, key, restarts, progress)


@dataclass(frozen=True)
class Restart:
    """How one restart ended.

    Attributes:
        loss: divergence at its end, in nats, on draws shared by all restarts; or None.
        standard_error: of that loss.
        basin: 0 for the best optimum found, then 1, 2, ... by loss; None if it failed.
        status: "finished", or why it failed.
    """

    loss: float | None
    standard_error: float | None
    basin: int | None
    status: str


@dataclass(frozen=True)
class Cost:
    """What a fit took, all restarts together; None where the solver did not keep count.

    Attributes:
        compile_seconds: of the seconds that solving took, those spent on compiling.
        log_density_evaluations, gradient_evaluations: of log p at one point.
    """

    compile_seconds: float | None = None
    log_density_evaluations: int | None = None
    gradient_evaluations: int | None = None

    @classmethod
    def nothing(cls) -> Cost:
        """Of a fit that never asked for log p."""
        return cls(0.0, 0, 0)

    def __add__(self, other: Cost) -> Cost:
        """Of both; not known where one of them is not."""
        both = zip(astuple(self), astuple(other), strict=True)
        return Cost(*(None if a is None or b is None else a + b for a, b in both))


@dataclass(frozen=True)
class Fit:
    """One approximation and how it came about.

    Attributes:
        approximation: q at the chosen parameters; None when every restart failed.
        status: how it ended.
        message: the same in words, with numbers.
        losses: (restarts, steps) training losses in nats; (0, 0) when given.
        restarts: how each restart ended, in order.
        chosen: index of the chosen restart.
        cost: what all restarts took together.
        covariance: (P, P) of the estimation error of ``ravel_pytree(params)``, or None
            where it is not known.
        training_floor: nats that it loses by having seen finitely many draws of the target,
            where the solver knows.
        settings: what the solver was set to, and "optimises_divergence": False of one that stops
            short of the optimum by design.
        doubt: why the loss that it was fitted by cannot be trusted, in words; or "".
        remedy: what to do should it not have converged, in words; or "". A solver that
            iterates says it also of a fit that seems to have converged.
        left: nats that it could still gain, where the solver has found that out; None where
            whoever runs it is to ask (`vi_compare.solvers._asked`).
    """

    approximation: GuideApproximation | DrawsApproximation | None
    status: Status
    message: str
    losses: np.ndarray
    restarts: tuple[Restart, ...] = ()
    chosen: int | None = None
    cost: Cost = Cost()
    covariance: np.ndarray | None = None
    training_floor: float | None = None
    settings: dict[str, Any] | None = None
    doubt: str = ""
    remedy: str = ""
    left: Estimate | None = None

    @property
    def optimises_divergence(self) -> bool:
        """Whether the optimum is what its solver looks for; a mode and its curvature, or a
        Gaussian on the way there, is something else, and has nothing left to gain."""
        return (self.settings or {}).get("optimises_divergence", True)


@dataclass(frozen=True)
class Expected:
    """What a fit is likely to take, before it is made.

    Attributes:
        gradients: of log p at one point.
        programs: that are compiled for it, besides log p and its gradient.
        seconds: of all else, on one core.
    """

    gradients: float = 0.0
    programs: float = 0.0
    seconds: float = 0.0


@runtime_checkable
class Solver(Protocol):
    """Reaches the optimum of a divergence over a guide's parameters."""

    def solve(self, problem: Problem) -> Fit: ...


@runtime_checkable
class Foresees(Protocol):
    """A solver that can say what a problem will take; ``vi-compare check`` asks it."""

    def expected(self, problem: Problem) -> Expected: ...
