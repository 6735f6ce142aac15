"""Any f-divergence D_f(p‖q) = E_q[f(p/q)], of a target that need not be normalised."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import Array
from jax.scipy.special import logsumexp

from vi_compare.approximation import Approximation, GuideApproximation
from vi_compare.divergences import Divergence
from vi_compare.divergences._importance import log_ratios, too_heavy
from vi_compare.target import Target


class FDivergence(Divergence):
    """E_q[f(t)], t = p/q, for f convex with f(1) = 0 (Csiszár 1963).

    The gradient is Σ_k ∇ π_k E_{q_k}[f − t f'], doubly reparameterised and stratified. Where
    the target is not normalised, log Z is taken from the same draws, which biases value and
    gradient by order 1/`particles`, and p is then seen only where q has draws: a mode
    that q has lost is not missed.

    Args:
        f: ``f(log_t)``, a function of log t so that nothing overflows: forward KL is
            ``lambda s: s * jnp.exp(s)``, reverse KL ``lambda s: -s``. Of the forms that differ
            by c (t − 1) one that grows little for large t has the least noise.
        particles: draws per component and step.

    Raises:
        ValueError: for fewer than 2 particles, which leave nothing beside their own log Z.
    """

    def __init__(self, f: Callable[[Array], Array], particles: int = 128):
        super().__init__(particles, at_least=2)
        self.f = f

    def estimate(self, key: Array, approximation: Approximation, target: Target) -> Array:
        n = self.num_particles
        log_weights, log_w = log_ratios(key, approximation, target, n)
        log_z = logsumexp(log_weights[:, None] + log_w) - jnp.log(n)
        log_t = log_w - (0.0 if target.normalised else jax.lax.stop_gradient(log_z))
        mean = lambda values: jnp.sum(jnp.exp(log_weights) * values.mean(axis=1))
        # t f'(t) is the derivative of f in log t; only the gradient of this mean is used.
        slope = mean(jax.vmap(jax.vmap(lambda s: self.f(s) - jax.grad(self.f)(s)))(log_t))
        return slope + jax.lax.stop_gradient(mean(self.f(log_t)) - slope)

    def why_doubtful(self, key: Array, approximation: GuideApproximation, carried) -> str:
        return too_heavy(key, approximation)
