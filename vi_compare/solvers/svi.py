"""Stochastic variational inference as in NumPyro: Adam on the guide's own parameters."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from jax import Array

from vi_compare import families
from vi_compare.divergences import Divergence
from vi_compare.solvers import Expected, Fit, Problem
from vi_compare.solvers._stochastic import Begin, Stochastic
from vi_compare.starts import starting_points
from vi_compare.target import Target


def suits(guide: Callable, divergence: Divergence | None) -> int | None:
    """Any guide under any divergence, but one whose size is to be found."""
    return None if divergence is None or families.family(guide).grows else 1


def build(steps: int = 20_000, learning_rate: float = 0.05) -> PlainVI:
    """Stochastic gradients: NumPyro's SVI with Adam, falling steps, averaged iterates."""
    return PlainVI(Stochastic("svi", steps, learning_rate))


@dataclass(frozen=True)
class PlainVI:
    """Restarts from random places, in the coordinates of the target itself."""

    stochastic: Stochastic

    def expected(self, problem: Problem) -> Expected:
        return self.stochastic.expected(problem)

    def solve(self, problem: Problem) -> Fit:
        """Fit the guide; the best of `restarts` is chosen on 2,048 draws."""
        return self.stochastic.search(problem, Begin(partial(_anywhere, problem.target)))


def _anywhere(target: Target, key: Array, restarts: int, each: int) -> Array:
    return starting_points(target, key, each * restarts).reshape(restarts, each, target.dim)
