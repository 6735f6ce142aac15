"""Fisher divergence: how far the scores ∇log q and ∇log p are apart, where q is."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import Array

from vi_compare.approximation import Approximation, GuideApproximation
from vi_compare.divergences import Divergence
from vi_compare.errors import InputError
from vi_compare.target import Target


class Fisher(Divergence):
    """E_q‖∇log q − ∇log p‖² over u, reparameterised and stratified (Hyvärinen 2005).

    It needs no log Z and cannot see wrong weights of modes far apart. Its unit is one over
    that of u squared, so stiff directions count most; weighted it has none.

    Args:
        particles: draws per component and step.
        weighted: E_q (∇log q − ∇log p)ᵀ Σ (∇log q − ∇log p) with Σ the covariance of q, for
            guides that are one Gaussian, and its gradient at fixed draws of q: the fixed
            point is that of Batch and Match (Cai et al. 2024), E[∇log p] = 0 and
            Cov[∇log p] = Σ⁻¹ under q.
    """

    in_nats = False

    def __init__(self, particles: int = 16, weighted: bool = False):
        super().__init__(particles)
        self.weighted = weighted

    def estimate(self, key: Array, approximation: Approximation, target: Target) -> Array:
        log_weights, u = approximation.strata(key, self.num_particles)
        if self.weighted:
            u = jax.lax.stop_gradient(u)
        scores = jax.vmap(jax.vmap(jax.grad(approximation.log_prob)))(u)
        apart = scores - jax.vmap(jax.vmap(jax.grad(target.log_density)))(u)
        if self.weighted:
            apart = apart @ jnp.linalg.cholesky(_covariance(approximation))
        return jnp.sum(jnp.exp(log_weights) * jnp.sum(apart**2, axis=-1).mean(axis=1))


def _covariance(approximation: Approximation) -> Array:
    """Covariance (d, d) of a guide that is one Gaussian."""
    if isinstance(approximation, GuideApproximation):
        q = approximation.family.to_mixture(approximation.params, approximation.target)
        if q is not None and len(q.weights) == 1:
            return q.covariances[0]
    raise InputError(
        "fisher:weighted needs the covariance of q, so a guide that is one Gaussian; "
        "leave weighted out for other guides"
    )


def build(reference, particles: int = 16, weighted: bool = False) -> Fisher:
    """E_q‖∇log q − ∇log p‖²: matches scores; weighted by q's covariance, Batch and Match's."""
    return Fisher(particles, weighted)
