"""What "closest" means: one divergence a file; `build(reference, ...)` makes the loss.

`Divergence` is the base class and the bridge to NumPyro: a subclass writes ``estimate``
for an `Approximation` and a `Target`, and is a loss for anybody's ``SVI``.
"""

from __future__ import annotations

from abc import abstractmethod

import jax
from jax import Array
from numpyro.infer import ELBO

from vi_compare.approximation import Approximation, GuideApproximation
from vi_compare.target import Target


class Divergence(ELBO):
    """Base class of the losses of this package: ``SVI(model, guide, optim, loss=...)``.

    Args:
        num_particles: draws per stratum and step.

    Attributes:
        evaluates_target: whether an estimate evaluates log p; counted in the cost.
    """

    evaluates_target = True

    def __init__(self, num_particles: int = 16):
        if num_particles < 1:
            raise ValueError(f"num_particles must be at least 1, got {num_particles}")
        super().__init__(num_particles)

    @abstractmethod
    def estimate(self, key: Array, approximation: Approximation, target: Target) -> Array:
        """One noisy value () in nats, whose gradient in the guide's parameters estimates
        the gradient of the divergence."""

    def loss_with_mutable_state(self, rng_key, param_map, model, guide, *args, **kwargs):
        # The model's own randomness is its minibatch; one key fixes it for the whole step.
        draw_key, minibatch_key = jax.random.split(rng_key)
        target = Target(model, args, kwargs, minibatch_key)
        approximation = GuideApproximation(guide, param_map, target)
        loss = self.estimate(draw_key, approximation, target)
        return {"loss": loss, "mutable_state": None}
