"""Jeffreys' divergence: KL(p‖q) + KL(q‖p)."""

from __future__ import annotations

import jax.numpy as jnp
from jax import Array

from vi_compare.divergences._f_divergence import FDivergence


def f(log_t: Array) -> Array:
    """(t − 1) log t (Jeffreys 1946), of log t."""
    return jnp.expm1(log_t) * log_t


def build(reference, particles: int = 128) -> FDivergence:
    """KL(p‖q) + KL(q‖p): neither missed nor invented mass is forgiven."""
    return FDivergence(f, particles)
