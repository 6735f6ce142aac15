"""What "closest" means: one divergence a file; `build(reference, ...)` makes the loss.

`Divergence` is the base class and the bridge to NumPyro: a subclass writes ``estimate``
for an `Approximation` and a `Target`, and is a loss for anybody's ``SVI``.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from typing import Any

import jax
from jax import Array
from numpyro.infer import ELBO

from vi_compare.approximation import Approximation, GuideApproximation
from vi_compare.estimate import Estimate
from vi_compare.target import Target

# The mutable site in which a loss keeps what it carries from step to step.
CARRIED = "vi_compare_carried"


class Divergence(ELBO):
    """Base class of the losses of this package: ``SVI(model, guide, optim, loss=...)``.

    Args:
        num_particles: draws per stratum and step.

    Attributes:
        evaluates_target: whether an estimate evaluates log p; counted in the cost.
        differentiates_target: whether its gradient needs that of log p; counted, too.
        stratified: whether `num_particles` are drawn of every component of a mixture.
        draws_per_particle: how many draws make one particle.
    """

    evaluates_target = True
    differentiates_target = True
    stratified = True
    draws_per_particle = 1

    def __init__(self, num_particles: int = 16):
        if num_particles < 1:
            raise ValueError(f"num_particles must be at least 1, got {num_particles}")
        super().__init__(num_particles)

    @abstractmethod
    def estimate(self, key: Array, approximation: Approximation, target: Target) -> Array:
        """One noisy value () in nats, whose gradient in the guide's parameters estimates
        the gradient of the divergence."""

    def carried(self, model: Callable, guide: Callable) -> Callable:
        """The guide for SVI to run, with the site `CARRIED` for a loss that needs it."""
        return guide

    def doubt(self, key: Array, approximation: GuideApproximation, carried: Any) -> str:
        """Why estimates near the optimum found cannot be trusted, or "" where they can.

        `carried` is what the loss had kept from step to step at the end, or None.
        """
        return ""

    def left(self, key: Array, approximation: GuideApproximation) -> Estimate | None:
        """Estimated nats between an approximation and the optimum that it is near, or None
        where that cannot be known."""
        return None

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
