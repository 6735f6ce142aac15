"""Every random number derives from one seed and from the name of what asks for it."""

from __future__ import annotations

import hashlib

import jax
import numpy as np
from jax import Array

MOST = 16


def key_for(seed: int, label: str) -> Array:
    """The key of everything random under `label`: adding another label changes none of it."""
    digest = hashlib.sha256(label.encode()).digest()
    # As 32-bit words, which every precision of JAX can hold; a key is made of two of them.
    words = np.array([(seed >> 32) % 2**32, seed % 2**32], np.uint32)
    return _folded(words, np.uint32(int.from_bytes(digest[:4], "big")))


def split(key: Array, n: int) -> tuple[Array, ...]:
    """n keys, at most `MOST`, from one; outside compiled code, where ``jax.random.split``
    would be one more program to compile for every n."""
    if n > MOST:
        raise ValueError(f"at most {MOST} keys at a time, got {n}; use jax.random.split")
    return _most(key)[:n]


def generator(key: Array) -> np.random.Generator:
    """numpy's generator, seeded by a key of JAX."""
    return np.random.default_rng(np.asarray(jax.random.key_data(key)).ravel().tolist())


def power_of_two(n: int) -> int:
    """The least power of two that is at least n."""
    return 1 << (n - 1).bit_length()


@jax.jit
def _folded(words: Array, data: Array) -> Array:
    return jax.random.fold_in(jax.random.wrap_key_data(words, impl="threefry2x32"), data)


@jax.jit
def _most(key: Array) -> tuple[Array, ...]:
    return tuple(jax.random.split(key, MOST))
