"""The importance-weighted ELBO: what q is worth when its draws are weighted afterwards."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import Array
from jax.scipy.special import logsumexp

from vi_compare.approximation import Approximation
from vi_compare.divergences import Divergence, Evaluations
from vi_compare.target import Target


class IWELBO(Divergence):
    """−E[log (1/T) Σ_t Σ_k π_k w(z_kt)], z_kt ~ q_k, in nats: log Z minus this is the bound.

    With one component the bound of Burda et al. (2016); with several the stratified one of
    Morningstar et al. (2021), which is tighter, and right in the weights. `samples` = 1 and
    one component is the ELBO. Draws and weights are differentiated whole.

    Args:
        samples: T, draws of each component inside one logarithm.
        particles: such logarithms per step.

    Raises:
        ValueError: where either is below 1.
    """

    def __init__(self, samples: int = 8, particles: int = 16):
        super().__init__(particles)
        if samples < 1:
            raise ValueError(f"samples must be at least 1, got {samples}")
        self.samples = samples

    def estimate(self, key: Array, approximation: Approximation, target: Target) -> Array:
        log_weights, u = approximation.strata(key, self.num_particles * self.samples)
        log_w = lambda z: target.log_density(z) - approximation.log_prob(z)
        terms = log_weights[:, None] + jax.vmap(jax.vmap(log_w))(u)
        groups = terms.reshape(len(log_weights), self.num_particles, self.samples)
        return jnp.log(self.samples) - logsumexp(groups, axis=(0, 2)).mean()

    def evaluations(self, strata: int) -> Evaluations:
        n = self.num_particles * self.samples * strata
        return Evaluations(n, n)


def build(reference, samples: int = 8, particles: int = 16) -> IWELBO:
    """The importance-weighted ELBO, stratified: for a fit whose draws will be reweighted."""
    return IWELBO(samples, particles)
