"""Every random number derives from one seed and from the name of what asks for it."""

from __future__ import annotations

import hashlib

import jax
from jax import Array

MOST = 16


def key_for(seed: int, label: str) -> Array:
    """The key of everything random under `label`: adding another label changes none of it."""
    digest = hashlib.sha256(label.encode()).digest()
    return _folded(seed, int.from_bytes(digest[:4], "big"))


def split(key: Array, n: int) -> tuple[Array, ...]:
    """n keys, at most `MOST`, from one; outside compiled code, where ``jax.random.split``
    would be one more program to compile for every n."""
    if n > MOST:
        raise ValueError(f"at most {MOST} keys at a time, got {n}; use jax.random.split")
    return _most(key)[:n]


@jax.jit
def _folded(seed: int, data: int) -> Array:
    return jax.random.fold_in(jax.random.key(seed), data)


@jax.jit
def _most(key: Array) -> tuple[Array, ...]:
    return tuple(jax.random.split(key, MOST))
