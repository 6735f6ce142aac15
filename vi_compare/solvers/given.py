"""No solving: parameters or draws as they stand, from a paper or another program."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from vi_compare.approximation import DrawsApproximation, GuideApproximation
from vi_compare.solvers import Cost, Expected, Fit, Problem
from vi_compare.verdict import Status


def suits(guide: Callable, divergence) -> int | None:
    """Any guide that nothing is to be fitted to."""
    return 0 if divergence is None else None


def build() -> GivenParameters:
    """Nothing is fitted: the parameters are taken as given (in a script: Given(...))."""
    return GivenParameters({})


@dataclass(frozen=True)
class GivenParameters:
    """Attributes:
    params: {name: value} of the guide's parameter sites.
    """

    params: dict[str, Any]

    def expected(self, problem: Problem) -> Expected:
        """Nothing is searched for."""
        return Expected()

    def solve(self, problem: Problem) -> Fit:
        q = GuideApproximation(problem.guide, self.params, problem.target)
        message = "parameters as they stand; nothing was fitted"
        return Fit(q, Status.GIVEN, message, np.zeros((0, 0)), cost=Cost.nothing())


@dataclass(frozen=True)
class GivenDraws:
    """Attributes:
    approximation: draws made elsewhere.
    """

    approximation: DrawsApproximation

    def expected(self, problem: Problem) -> Expected:
        """Nothing is searched for."""
        return Expected()

    def solve(self, problem: Problem) -> Fit:
        message = f"{len(self.approximation.draws)} draws as they stand; nothing was fitted"
        return Fit(self.approximation, Status.GIVEN, message, np.zeros((0, 0)), cost=Cost.nothing())
