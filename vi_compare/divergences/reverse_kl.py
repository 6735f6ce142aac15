"""Reverse KL, KL(q‖p) = E_q[log q − log p]: mass of q where p has none is what costs."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import Array

from vi_compare.approximation import Approximation
from vi_compare.divergences import Divergence
from vi_compare.errors import InputError
from vi_compare.target import Target


class ReverseKL(Divergence):
    """Stratified reverse KL: the negative ELBO, right for mixtures as well.

    sum_k w_k E_{q_k}[log q − log p], each component reparameterised, the weights
    differentiated exactly, the whole mixture in log q (Morningstar et al. 2021). A guide
    without components has one stratum.

    Args:
        num_particles: draws per component and step.
        stl: sticking the landing (Roeder et al. 2017): leave out the part of the gradient
            that is zero on average. Noise goes to 0 as q reaches p; far from p the plain
            form can be the less noisy.
    """

    def __init__(self, num_particles: int = 16, stl: bool = False):
        super().__init__(num_particles)
        self.stl = stl

    def estimate(self, key: Array, approximation: Approximation, target: Target) -> Array:
        log_weights, u = approximation.strata(key, self.num_particles)
        scored = approximation.stopped() if self.stl else approximation
        excess = lambda point: scored.log_prob(point) - target.log_density(point)
        return jnp.sum(jnp.exp(log_weights) * jax.vmap(jax.vmap(excess))(u).mean(axis=1))


def build(reference, particles: int = 16, stl: bool = False) -> ReverseKL:
    """KL(q‖p), the negative ELBO: charges mass that q invents."""
    if particles < 1:
        raise InputError(f"reverse-kl: particles must be positive, got {particles}")
    return ReverseKL(particles, stl)
