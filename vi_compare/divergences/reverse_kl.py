"""Reverse KL, KL(q‖p) = E_q[log q − log p]: mass of q where p has none is what costs."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from vi_compare.approximation import Approximation, GuideApproximation
from vi_compare.divergences import Divergence, Evaluations, _linear_response, _optimality_gap
from vi_compare.estimate import Estimate
from vi_compare.evidence import Response
from vi_compare.target import Target


class ReverseKL(Divergence):
    """Stratified reverse KL: the negative ELBO, right for mixtures as well.

    sum_k w_k E_{q_k}[log q − log p], each component reparameterised, the weights
    differentiated exactly, the whole mixture in log q (Morningstar et al. 2021). A guide
    without components has one stratum.

    Args:
        particles: draws per component and step.
        stl: sticking the landing (Roeder et al. 2017): leave out the part of the gradient
            that is zero on average. Noise goes to 0 as q reaches p; far from p the plain
            form can be the less noisy.
        score: the score-function form (Williams 1992) with the mean of the other draws as
            the baseline of each (Mnih and Rezende 2016), for guides that cannot be
            reparameterised; `particles` are then draws of q, not of each component.

    Raises:
        ValueError: for both forms at once, or a baseline without other draws.
    """

    def __init__(self, particles: int = 16, stl: bool = False, score: bool = False):
        super().__init__(particles)
        if stl and score:
            raise ValueError("stl and score are two forms of one gradient; choose one")
        if score and particles < 2:
            raise ValueError("score needs at least 2 particles: the others are the baseline")
        self.stl, self.score = stl, score

    def estimate(self, key: Array, approximation: Approximation, target: Target) -> Array:
        if self.score:
            return self._by_score(key, approximation, target)
        log_weights, u = approximation.strata(key, self.num_particles)
        scored = approximation.stopped() if self.stl else approximation
        log_ratio = lambda point: scored.log_prob(point) - target.log_density(point)
        each = jax.vmap(log_ratio)(u.reshape(-1, u.shape[-1])).reshape(u.shape[:-1])
        return jnp.sum(jnp.exp(log_weights) * each.mean(axis=1))

    def evaluations(self, strata: int) -> Evaluations:
        """The score form takes no gradient of log p, and draws of q as a whole."""
        return Evaluations(self.num_particles, 0) if self.score else super().evaluations(strata)

    def quiet(self) -> ReverseKL:
        """Sticking the landing, whose noise goes to 0 as q reaches p."""
        return self if self.score or self.stl else ReverseKL(self.num_particles, stl=True)

    def optimality_gap(self, key: Array, approximation: GuideApproximation) -> Estimate | None:
        return _optimality_gap.optimality_gap(approximation, key)

    def linear_response(
        self, approximation: GuideApproximation, rng: np.random.Generator
    ) -> Response:
        return _linear_response.linear_response(approximation, rng)

    def _by_score(self, key: Array, approximation: Approximation, target: Target) -> Array:
        n = self.num_particles
        u = jax.lax.stop_gradient(jax.vmap(approximation.draw)(jax.random.split(key, n)))
        log_q = jax.vmap(approximation.log_prob)(u)
        log_ratio = jax.lax.stop_gradient(log_q - jax.vmap(target.log_density)(u))
        others = (log_ratio.sum() - log_ratio) / (n - 1)
        # Only the gradient of this term is used: score times log-density ratio.
        score = jnp.mean((log_ratio - others) * log_q)
        return log_ratio.mean() + score - jax.lax.stop_gradient(score)


def build(reference, particles: int = 16, stl: bool = False, score: bool = False) -> ReverseKL:
    """KL(q‖p), the negative ELBO: charges mass that q invents."""
    return ReverseKL(particles, stl, score)
