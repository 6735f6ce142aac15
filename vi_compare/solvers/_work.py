"""What a stochastic search can afford where log p, or log q, takes long: fewer starts, fewer draws.

Work is counted in operations of the program that XLA compiles, and not in seconds, so that the
same command does the same everywhere.
"""

from __future__ import annotations

from dataclasses import dataclass

from vi_compare import families
from vi_compare.solvers import Problem
from vi_compare.target import Target
from vi_compare.target.work import afforded

# Operations that log q takes for each parameter of the guide, at one draw: each is used once by the
# density, and twice by its gradient, in a product and a sum.
FOR_A_PARAMETER = 6


@dataclass(frozen=True)
class Budget:
    """Limits of one fit.

    Attributes:
        operations: of the search, and again of the polish, when both take as many steps as below;
            some 30 seconds of one core each.
        search_steps, polish_steps: what they usually take.
        fewest: restarts that are followed in any case.
        beyond: how many times `operations` the fewest may take in a fit that nobody named.
    """

    operations: float = 6e10
    search_steps: int = 4_000
    polish_steps: int = 6_000
    fewest: int = 2
    beyond: float = 4.0

    def restarts(self, problem: Problem) -> int:
        """How many of the problem's restarts can be followed."""
        each = operations_of_a_step(problem) * self.search_steps
        return afforded(self.operations, each, self.fewest, problem.restarts)

    def draws(self, problem: Problem, wanted: int) -> int:
        """How many times the draws of a step a step of the polish can have, `wanted` at most."""
        each = operations_of_a_step(problem) * self.polish_steps
        return afforded(self.operations, each, 1, wanted)

    def is_enough_for(self, target: Target, gradients: int) -> bool:
        """Whether the fewest restarts of a search with so many gradients of log p in a step are
        not far beyond it."""
        steps = self.fewest * self.search_steps
        spent = 0.0 if target.subsampled else steps * gradients * target.operations
        return spent <= self.beyond * self.operations


def operations_of_a_step(problem: Problem) -> float:
    """Operations of log p and of log q in a step of one restart; 0 where nobody need care: for a
    divergence that does not ask for log p, and for a model that sees minibatches."""
    target, guide = problem.target, problem.guide
    asked = problem.divergence.evaluations(families.family(guide).num_components).gradient
    if not asked or target.subsampled:
        return 0.0
    return asked * (
        target.operations + FOR_A_PARAMETER * families.number_of_parameters(guide, target)
    )
