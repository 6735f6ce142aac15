"""Single-path Pathfinder by BlackJAX, for one Gaussian of full rank (``_blackjax.py``)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from vi_compare import families
from vi_compare.divergences.reverse_kl import ReverseKL
from vi_compare.solvers import Fit, Problem
from vi_compare.solvers._blackjax import Pathfinding


def suits(guide: Callable, divergence) -> int | None:
    """One Gaussian of full rank, under the divergence that chooses on the path."""
    full = families.family(guide).covariances == families.Covariances.FULL
    return 0 if full and isinstance(divergence, ReverseKL) else None


def build(iterations: int = 100, memory: int = 10, draws: int = 200) -> SinglePath:
    """Pathfinder by BlackJAX (the extra 'peers'), for mvn: a Gaussian on the way to the mode."""
    return SinglePath(Pathfinding("pathfinder", iterations, memory, draws))


@dataclass(frozen=True)
class SinglePath:
    """A path from every start; the best by ELBO is chosen on 2,048 draws."""

    pathfinding: Pathfinding

    def solve(self, problem: Problem) -> Fit:
        family = families.family(problem.guide)
        params = lambda met: family.from_gaussian(met[0].mean, met[0].factor, problem.target)
        return self.pathfinding.search(problem, 1, params)
