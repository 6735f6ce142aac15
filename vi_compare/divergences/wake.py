"""Forward KL without draws of p: draws of q, weighted (the wake phase)."""

from __future__ import annotations

import jax
from jax import Array

from vi_compare.approximation import Approximation, GuideApproximation
from vi_compare.divergences import Divergence, Evaluations
from vi_compare.divergences._importance import too_heavy, weighted_forward_kl
from vi_compare.target import Target


class Wake(Divergence):
    """KL(p‖q) by self-normalised importance weights of draws of q (Bornschein and Bengio 2015).

    The gradient is −Σ W_i ∇ log q(z_i), W = w / Σ w, biased by order 1/`particles`; the
    value is the same estimate of the divergence itself, log Z included. Both see p only
    where q has draws: a mode that q has lost is never missed.

    Args:
        particles: draws of q per step.

    Raises:
        ValueError: for fewer than 2, whose only weight is 1 whatever q is.
    """

    def __init__(self, particles: int = 256):
        super().__init__(particles, at_least=2)

    def estimate(self, key: Array, approximation: Approximation, target: Target) -> Array:
        keys = jax.random.split(key, self.num_particles)
        u = jax.lax.stop_gradient(jax.vmap(approximation.draw)(keys))
        return weighted_forward_kl(u, approximation, target)

    def evaluations(self, strata: int) -> Evaluations:
        """log p at every draw, without its gradient: the draws are held."""
        return Evaluations(self.num_particles, 0)

    def why_doubtful(self, key: Array, approximation: GuideApproximation, carried) -> str:
        return too_heavy(key, approximation)


def build(reference, particles: int = 256) -> Wake:
    """KL(p‖q) from weighted draws of q alone: for where there are no draws of the target."""
    return Wake(particles)
