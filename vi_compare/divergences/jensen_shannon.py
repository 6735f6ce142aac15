"""Jensen-Shannon: the mean KL of p and q to their mixture, between 0 and ln 2."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import Array

from vi_compare.divergences._f_divergence import FDivergence


def f(log_t: Array) -> Array:
    """½ [t log(2t/(1 + t)) + log(2/(1 + t))] (Lin 1991), of log t, less (t − 1) ½ ln 2, which
    vanishes on average: what is left grows like log t."""
    # Beyond log t = 30, t log(1 + 1/t) is 1 to rounding, and t itself would overflow.
    some = jnp.minimum(log_t, 30.0)
    shared = jnp.exp(some) * jax.nn.softplus(-some)  # t log(1 + 1/t), which tends to 1
    return jnp.log(2.0) - (shared + jax.nn.softplus(log_t)) / 2


def build(reference, particles: int = 128) -> FDivergence:
    """Jensen-Shannon, at most ln 2: charges missed and invented mass alike."""
    return FDivergence(f, particles)
