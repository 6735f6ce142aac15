"""The χ upper bounds: (1/n) log E_q[w^n] lies above log Z, as the ELBO lies below."""

from __future__ import annotations

from jax import Array

from vi_compare.approximation import Approximation, GuideApproximation
from vi_compare.divergences import Divergence
from vi_compare.divergences._importance import log_mean_power, scaled, too_heavy
from vi_compare.target import Target


class CUBO(Divergence):
    """CUBO_n = (1/n) log E_q[w^n] in nats, w = p̃/q (Dieng et al. 2017).

    n = 2 is the χ² divergence: CUBO_2 = log Z + ½ log(1 + χ²(p‖q)). The gradient is doubly
    reparameterised and stratified, biased by order 1/`particles`. Infinite where the
    tails of q are too light.

    Args:
        order: n, above 1.
        particles: draws per component and step.

    Raises:
        ValueError: for an order of 1 or less, where it is no upper bound.
    """

    def __init__(self, order: float = 2.0, particles: int = 128):
        super().__init__(particles)
        if not order > 1:
            raise ValueError(f"order must be above 1, got {order}")
        self.order = order

    def estimate(self, key: Array, approximation: Approximation, target: Target) -> Array:
        power = log_mean_power(key, approximation, target, self.order, self.num_particles)
        return scaled(power, 1 / self.order, (1 - self.order) / self.order)

    def why_doubtful(self, key: Array, approximation: GuideApproximation, carried) -> str:
        return too_heavy(key, approximation, self.order)


def build(reference, order: float = 2.0, particles: int = 128) -> CUBO:
    """The χ upper bound on log Z of order n; at 2 it minimises χ²(p‖q): covers, tails first."""
    return CUBO(order, particles)
