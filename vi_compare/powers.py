"""E_q[w^a] with w = p̃/q: what Amari's, Rényi's and the χ² divergences are made of."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import Array
from jax.scipy.special import logsumexp

from vi_compare.approximation import Approximation
from vi_compare.target import Target


def log_ratios(
    key: Array, approximation: Approximation, target: Target, n: int
) -> tuple[Array, Array]:
    """(log weights of the strata (K,), log w at n draws of each (K, n)).

    The parameters inside log q are stopped and those of the draws are not, as doubly
    reparameterised gradients want it (Tucker et al. 2019): for any I = E_q[f(w)] the
    gradient is that of Σ_k π_k E_{q_k}[f(w) − w f'(w)] with log q stopped.
    """
    log_weights, u = approximation.strata(key, n)
    scored = approximation.stopped()
    log_w = jax.vmap(jax.vmap(lambda z: target.log_density(z) - scored.log_prob(z)))(u)
    return log_weights, log_w


def log_mean_power(
    key: Array, approximation: Approximation, target: Target, power: float, n: int
) -> Array:
    """log E_q[w^a] (), with a gradient that is 1/(1 − a) of the true one: see `sloped`."""
    log_weights, log_w = log_ratios(key, approximation, target, n)
    return logsumexp(log_weights[:, None] + power * log_w) - jnp.log(n)


def sloped(x: Array, factor: float, slope: float) -> Array:
    """`factor` · x with the gradient of `slope` · x."""
    return slope * x + (factor - slope) * jax.lax.stop_gradient(x)
