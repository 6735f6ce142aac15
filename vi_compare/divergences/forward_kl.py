"""Forward KL, KL(p‖q) = E_p[log p − log q]: mass of p where q has none is what costs."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import Array

from vi_compare.approximation import Approximation, GuideApproximation
from vi_compare.divergences import Divergence, Evaluations
from vi_compare.divergences._sandwich import sandwich
from vi_compare.errors import InputError
from vi_compare.evidence import Draws
from vi_compare.target import Target


class ForwardKL(Divergence):
    """Forward KL against draws of the target: maximum likelihood of the draws under q.

    The value is E_p[log p − log q] over the draws where their log p is known, which is
    the divergence itself for a normalised target and off by log Z for others; where it
    is not known, E_p[−log q]. The gradient is the same.

    Args:
        draws: draws of the target, as from ``Target(model, args, kwargs).draws(values)``.
        particles: how many of them each step sees, drawn with replacement; None: all.
    """

    draws: Draws

    def __init__(self, draws: Draws, particles: int | None = 256):
        super().__init__(1 if particles is None else particles)
        self.draws, self.all_draws = draws, particles is None

    def estimate(self, key: Array, approximation: Approximation, target: Target) -> Array:
        u, log_p = self.draws.u, self.draws.log_p
        if not self.all_draws:
            rows = jax.random.randint(key, (self.num_particles,), 0, len(self.draws))
            u, log_p = u[rows], None if log_p is None else log_p[rows]
        log_q = jax.vmap(approximation.log_prob)(u)
        return jnp.mean(-log_q if log_p is None else log_p - log_q)

    def evaluations(self, strata: int) -> Evaluations:
        """None: the draws carry their log p."""
        return Evaluations(0, 0)

    def training_floor(self, approximation: GuideApproximation) -> float | None:
        """tr(H⁻¹V)/(2n) over its n draws, see `sandwich`; None above 300 parameters."""
        found = sandwich(approximation, self.draws.u)
        return None if found is None else found[1]


def build(reference, particles: int = 256) -> ForwardKL:
    """KL(p‖q) against draws of the target: charges mass that q misses."""
    if reference is None:
        raise InputError(
            "forward-kl needs draws of the target and there are none; "
            "define exact(key, n) in the script, or leave --reference as it is"
        )
    return ForwardKL(reference.train, particles)
