"""Importance weights w = p̃/q: means of their powers, forward KL by them, whether to believe them.

E_q[w^a] is what Amari's, Rényi's and the χ² divergences are made of.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import Array
from jax.scipy.special import logsumexp

from vi_compare.approximation import Approximation, GuideApproximation
from vi_compare.psis import khat_limit, pareto_khat
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
    """log E_q[w^a] (), with a gradient that is 1/(1 − a) of the true one: see `scaled`."""
    log_weights, log_w = log_ratios(key, approximation, target, n)
    return logsumexp(log_weights[:, None] + power * log_w) - jnp.log(n)


def scaled(x: Array, value: float, gradient: float) -> Array:
    """`value` · x, with `gradient` · ∇x for its gradient."""
    return gradient * x + (value - gradient) * jax.lax.stop_gradient(x)


def weighted_forward_kl(u: Array, approximation: Approximation, target: Target) -> Array:
    """E_p[log p − log q] () from fixed points u (n, d), each weighted by w = p̃/q."""
    log_w = _log_w(u, approximation, target)
    held = jax.lax.stop_gradient(log_w)
    log_z = logsumexp(held) - jnp.log(len(u))
    return jnp.sum(jax.nn.softmax(held) * log_w) - log_z


def log_weights(u: Array, approximation: Approximation, target: Target) -> Array:
    """log w (n,) at fixed points, without a gradient."""
    return jax.lax.stop_gradient(_log_w(u, approximation, target))


def _log_w(u: Array, approximation: Approximation, target: Target) -> Array:
    return jax.vmap(lambda z: target.log_density(z) - approximation.log_prob(z))(u)


def too_heavy(
    key: Array, approximation: GuideApproximation, power: float = 1.0, draws: int = 10_000
) -> str:
    """Why E_q[w^power] cannot be had from draws of q, by Pareto k̂; "" where it can.

    `draws` are taken for k̂; with 10,000 the limit on it is its largest, 0.7.
    """
    log_w, reason = approximation.sample(key, draws).log_ratio()
    if log_w is None:
        return f"the weights of its draws are not known: {reason}"
    khat, limit = pareto_khat(power * log_w), khat_limit(draws)
    if khat <= limit:
        return ""
    what = "the weights p/q" if power == 1 else f"the weights (p/q)^{power:g}"
    return (
        f"{what} that it was fitted by have k̂ = {khat:.2f}, and {limit:.2f} is the limit: "
        f"neither the loss nor its gradient can be trusted"
    )
