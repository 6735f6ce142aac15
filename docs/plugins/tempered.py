"""A divergence: reverse KL to the target at another temperature.

One file, one idea. A divergence is a loss of NumPyro, so that what you write here works in
anybody's ``SVI(model, guide, optim, loss=Tempered(0.5))`` and under the name ``tempered`` in
``vi-compare run ... --fit mvn/tempered:0.5``.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from vi_compare.divergences import Divergence


class Tempered(Divergence):
    """E_q[log q − β log p̃]: reverse KL to p^β, up to its normaliser.

    Below β = 1 the target is flattened, so that q spreads; a Gaussian target N(m, Σ) has its
    optimum at N(m, Σ/β) (Mandt et al. 2016, "Variational tempering").

    Args:
        beta: the inverse temperature, above 0.
        particles: draws per stratum and step.

    Raises:
        ValueError: for a `beta` that is not positive. vi_compare turns it into one line that
            names the fit.
    """

    def __init__(self, beta: float = 0.5, particles: int = 16):
        super().__init__(particles)
        if not beta > 0:
            raise ValueError(f"beta must be positive, got {beta}")
        self.beta = beta

    def estimate(self, key, approximation, target):
        # `strata` writes q as a weighted sum of parts that can be reparameterised: a Gaussian
        # is one part, a mixture has one a component. u is (K, n, d), log_weights (K,).
        log_weights, u = approximation.strata(key, self.num_particles)
        # Write the mathematics for one point and let vmap do the rest.
        excess = lambda point: approximation.log_prob(point) - self.beta * target.log_density(point)
        each = jax.vmap(jax.vmap(excess))(u)
        # One log p and one gradient a draw: what `Divergence.evaluations` says unless overridden.
        return jnp.sum(jnp.exp(log_weights) * each.mean(axis=1))


def build(reference, beta: float = 0.5, particles: int = 16) -> Tempered:
    """KL(q‖p^β) up to a constant: spreads q below β = 1, sharpens it above."""
    # `reference` holds draws of the target, for divergences that need them. The parameters with
    # a default are the options on the command line; the docstring's first line is what
    # `vi-compare list` shows.
    return Tempered(beta, particles)
