"""What "closest" means: one divergence a file; `build(reference, ...)` makes the loss.

`Divergence` is the base class and the bridge to NumPyro: a subclass writes ``estimate``
for an `Approximation` and a `Target`, and is a loss for anybody's ``SVI``.

A constructor refuses what it cannot use by a ``ValueError`` without its own name; whoever
builds it from a label says which (`vi_compare.run.labels.Part.build`).
"""

from __future__ import annotations

import copy
from abc import abstractmethod
from collections.abc import Callable
from typing import Any, NamedTuple, Self

import jax
import numpy as np
from jax import Array
from numpyro.infer import ELBO

from vi_compare.approximation import Approximation, GuideApproximation
from vi_compare.estimate import Estimate
from vi_compare.evidence import Draws, Response
from vi_compare.target import Target

# The mutable site in which a loss keeps its state from step to step.
CARRIED = "vi_compare_carried"


class Evaluations(NamedTuple):
    """How often one estimate evaluates the target; one evaluation is at one point u (d,).

    Attributes:
        log_density: of log p.
        gradient: of ∇ log p, for an estimate that is differentiated in the guide's parameters.
    """

    log_density: int
    gradient: int


class Divergence(ELBO):
    """Base class of the losses of this package: ``SVI(model, guide, optim, loss=...)``.

    A subclass writes `estimate`; `evaluations`, where it does not differentiate log p at
    draws of every stratum; and those of the hooks `quiet`, `optimality_gap`, `why_doubtful`,
    `guide_with_state`, `training_floor` and `linear_response` that it has an answer to.

    Args:
        particles: draws per stratum and step; kept as `num_particles`, as NumPyro calls it.
        at_least: the fewest that the estimator has a meaning for.

    Attributes:
        draws: fixed draws that the estimates are made of, of the target or of another law
            that is meant to cover it; None where every step draws from q. Solvers look at
            them to see scales before the first step.
        in_nats: whether a value is in nats, or in what nats are near the target.

    Raises:
        ValueError: for fewer particles than `at_least`.
    """

    draws: Draws | None = None
    in_nats: bool = True

    def __init__(self, particles: int = 16, at_least: int = 1):
        if particles < at_least:
            raise ValueError(f"particles must be at least {at_least}, got {particles}")
        super().__init__(particles)

    @abstractmethod
    def estimate(self, key: Array, approximation: Approximation, target: Target) -> Array:
        """One noisy value () in nats, whose gradient in the guide's parameters estimates
        the gradient of the divergence."""

    def evaluations(self, strata: int) -> Evaluations:
        """What one estimate with its gradient evaluates, for a q of `strata` components.

        Here: log p and its gradient, at `num_particles` draws of every component.
        """
        return Evaluations(self.num_particles * strata, self.num_particles * strata)

    def with_particles(self, particles: int) -> Self:
        """The same divergence with another number of draws."""
        other = copy.copy(self)
        other.num_particles = particles
        return other

    def with_draws(self, draws: Draws) -> Self:
        """The same divergence against other fixed draws, for one that has some."""
        other = copy.copy(self)
        other.draws = draws
        return other

    def quiet(self) -> Self:
        """The same divergence with the form of its gradient that has the least noise near the
        optimum; its values at one key are the same."""
        return self

    def guide_with_state(self, model: Callable, guide: Callable) -> Callable:
        """The guide for SVI to run: with the mutable site `CARRIED` beside it for a loss that
        keeps something from step to step, ``SVI(model, loss.guide_with_state(model, guide),
        optim, loss)``; else the guide itself."""
        return guide

    def why_doubtful(self, key: Array, approximation: GuideApproximation, carried: Any) -> str:
        """Why estimates near the optimum found cannot be trusted, or "" where they can.

        `carried` is what the loss had kept in `CARRIED` at the end, or None.
        """
        return ""

    def optimality_gap(self, key: Array, approximation: GuideApproximation) -> Estimate | None:
        """Estimated nats between an approximation and the optimum that it is near, for one
        that there is a better way to ask than a search on fixed draws, which serves any; else
        None. `n` of the estimate counts the gradients of log p it took."""
        return None

    def training_floor(self, approximation: GuideApproximation) -> float | None:
        """Expected nats that an optimum loses by having seen finitely many draws; None for a
        loss that is not fitted to fixed draws, and where it cannot be known."""
        return None

    def linear_response(
        self, approximation: GuideApproximation, rng: np.random.Generator
    ) -> Response:
        """Standard deviations that the optimum of this divergence implies by how it answers to a
        tilt of log p, or why there are none."""
        return Response(reason="linear response is worked out for reverse KL alone")

    def loss_with_mutable_state(self, rng_key, param_map, model, guide, *args, **kwargs):
        draw_key, target = self.bound(rng_key, model, args, kwargs)
        approximation = GuideApproximation(guide, param_map, target)
        loss = self.estimate(draw_key, approximation, target)
        return {"loss": loss, "mutable_state": None}

    @staticmethod
    def bound(rng_key: Array, model, args: tuple, kwargs: dict) -> tuple[Array, Target]:
        """The key of the draws, and the target of this step."""
        # The model's own randomness is its minibatch; one key fixes it for the whole step.
        draw_key, minibatch_key = jax.random.split(rng_key)
        return draw_key, Target(model, args, kwargs, minibatch_key)
