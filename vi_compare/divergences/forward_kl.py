"""Forward KL, KL(p‖q) = E_p[log p − log q]: mass of p where q has none is what costs."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import Array

from vi_compare.approximation import Approximation
from vi_compare.divergences import Divergence
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
        num_particles: how many of them each step sees, drawn with replacement; None: all.
    """

    evaluates_target = False

    def __init__(self, draws: Draws, num_particles: int | None = 256):
        super().__init__(1 if num_particles is None else num_particles)
        self.draws, self.all_draws = draws, num_particles is None

    def estimate(self, key: Array, approximation: Approximation, target: Target) -> Array:
        u, log_p = self.draws.u, self.draws.log_p
        if not self.all_draws:
            rows = jax.random.randint(key, (self.num_particles,), 0, len(self.draws))
            u, log_p = u[rows], None if log_p is None else log_p[rows]
        log_q = jax.vmap(approximation.log_prob)(u)
        return jnp.mean(-log_q if log_p is None else log_p - log_q)


def build(reference, particles: int = 256) -> ForwardKL:
    """KL(p‖q) against draws of the target: charges mass that q misses."""
    if particles < 1:
        raise InputError(f"forward-kl: particles must be positive, got {particles}")
    if reference is None:
        raise InputError(
            "forward-kl needs draws of the target and there are none; "
            "define exact(key, n) in the script, or leave --reference as it is"
        )
    return ForwardKL(reference.train, particles)
