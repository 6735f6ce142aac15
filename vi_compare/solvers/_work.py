"""What a stochastic search can afford where log p takes long: fewer starts, fewer draws.

Work is counted in operations of the program that XLA compiles, and not in seconds, so that the
same command does the same everywhere.
"""

from __future__ import annotations

from dataclasses import dataclass

from vi_compare.divergences import Divergence
from vi_compare.target import Target


@dataclass(frozen=True)
class Budget:
    """Limits of one fit.

    Attributes:
        operations: of the search, and again of the polish, when both take as many steps as below;
            some 30 seconds of one core each.
        search_steps, polish_steps: what they usually take.
        fewest: restarts that are followed in any case.
    """

    operations: float = 6e10
    search_steps: int = 4_000
    polish_steps: int = 6_000
    fewest: int = 2

    def restarts(self, target: Target, divergence: Divergence, strata: int, wanted: int) -> int:
        """How many of the restarts `wanted` can be followed."""
        step = self._of_a_step(target, divergence, strata)
        return self._afforded(step * self.search_steps, self.fewest, wanted)

    def draws(self, target: Target, divergence: Divergence, strata: int, wanted: int) -> int:
        """How many times the draws of a step a step of the polish can have, `wanted` at most."""
        step = self._of_a_step(target, divergence, strata)
        return self._afforded(step * self.polish_steps, 1, wanted)

    def _afforded(self, each: float, fewest: int, wanted: int) -> int:
        """How many of those `wanted` can be had, of so many operations each."""
        return min(wanted, max(fewest, int(self.operations / each))) if each else wanted

    def _of_a_step(self, target: Target, divergence: Divergence, strata: int) -> float:
        """Operations of log p in a step of one restart; 0 where nobody need care: for a divergence
        that does not ask for it, and for a model that sees minibatches."""
        asked = divergence.evaluations(strata).gradient
        return asked * target.operations if asked and not target.subsampled else 0.0
