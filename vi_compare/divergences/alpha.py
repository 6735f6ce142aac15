"""Amari's α divergences: from reverse KL at 0 to forward KL at 1, and beyond both."""

from __future__ import annotations

import math

from jax import Array

from vi_compare import catalogue
from vi_compare.approximation import Approximation, GuideApproximation
from vi_compare.divergences import Divergence
from vi_compare.divergences._importance import log_mean_power, scaled, too_heavy
from vi_compare.target import Target


class AmariAlpha(Divergence):
    """A_α = (1 − ∫ p^α q^(1−α)) / (α(1 − α)) (Amari 1985), for any α but 0 and 1.

    The value is log E_q[w^α] / (α(α − 1)) with w = p̃/q, which rises and falls with A_α
    and whose gradient knows nothing of log Z; for a normalised p it is
    log(1 − α(1 − α) A_α) / (α(α − 1)). The gradient is doubly reparameterised (Tucker et
    al. 2019) and stratified; as a ratio of means it is biased by order 1/`particles`.
    Outside [0, 1] the divergence can be infinite: above 1 where tails of q are lighter than
    those of p, below 0 where they are heavier.

    Args:
        alpha: below 1/2 it seeks modes, above it covers mass.
        particles: draws per component and step.

    Raises:
        ValueError: for 0 and 1, which are `ReverseKL` and `ForwardKL`, and what is not finite.
    """

    def __init__(self, alpha: float, particles: int = 128):
        super().__init__(particles)
        if alpha in (0, 1) or not math.isfinite(alpha):
            raise ValueError(f"alpha must be finite and neither 0 nor 1, got {alpha}")
        self.alpha = alpha

    def estimate(self, key: Array, approximation: Approximation, target: Target) -> Array:
        power = log_mean_power(key, approximation, target, self.alpha, self.num_particles)
        return scaled(power, 1 / (self.alpha * (self.alpha - 1)), -1 / self.alpha)

    def why_doubtful(self, key: Array, approximation: GuideApproximation, carried) -> str:
        return too_heavy(key, approximation, self.alpha)


def build(reference, alpha: float = 0.5, particles: int = 128) -> Divergence:
    """Amari's A_α: reverse KL at 0, forward KL at 1, the more it covers the larger α."""
    # The limits themselves, which the general formula has not.
    if alpha == 0:
        return catalogue.load("divergences", "reverse-kl").build(reference, particles)
    if alpha == 1:
        return catalogue.load("divergences", "forward-kl").build(reference, particles)
    return AmariAlpha(alpha, particles)
