"""Log-variance: how far log q − log p is from constant, under any sampler of draws."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import Array

from vi_compare.approximation import Approximation
from vi_compare.divergences import Divergence, Evaluations
from vi_compare.evidence import Draws
from vi_compare.target import Target


class LogVariance(Divergence):
    """½ Var_r[log q − log p̃] in nats², with draws of r held fixed (Richter et al. 2020).

    With r = q its gradient is that of reverse KL, with the control variate that VarGrad
    is named for; no guide needs to be reparameterised. It is 0 at q = p for every r.

    Args:
        particles: draws per step.
        draws: draws of r with their log p; None: r = q.

    Raises:
        ValueError: for fewer than 2 particles, which have no variance.
    """

    def __init__(self, particles: int = 128, draws: Draws | None = None):
        super().__init__(particles, at_least=2)
        self.draws = draws

    def estimate(self, key: Array, approximation: Approximation, target: Target) -> Array:
        u, log_p = self._sampled(key, approximation, target)
        return jnp.var(jax.vmap(approximation.log_prob)(u) - log_p, ddof=1) / 2

    def evaluations(self, strata: int) -> Evaluations:
        """log p at the draws of q, without its gradient; fixed draws carry theirs."""
        return Evaluations(0 if self.draws is not None else self.num_particles, 0)

    def _sampled(self, key: Array, approximation: Approximation, target: Target):
        if self.draws is None:
            keys = jax.random.split(key, self.num_particles)
            u = jax.lax.stop_gradient(jax.vmap(approximation.draw)(keys))
            return u, jax.vmap(target.log_density)(u)
        rows = jax.random.randint(key, (self.num_particles,), 0, len(self.draws))
        return self.draws.u[rows], jnp.asarray(self.draws.log_p)[rows]


def build(reference, sampler: str = "q", particles: int = 128) -> LogVariance:
    """½ Var_r[log q − log p]: r = q gives the gradient of reverse KL, or sampler=reference."""
    if sampler not in ("q", "reference"):
        raise ValueError(f"sampler must be q or reference, got {sampler!r}")
    draws = None
    if sampler == "reference":
        if reference is None:
            raise ValueError("sampler=reference needs draws of the target and there are none")
        draws = reference.train
    return LogVariance(particles, draws)
