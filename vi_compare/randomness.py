"""Every random number derives from one seed and from the name of what asks for it."""

from __future__ import annotations

import hashlib

import jax
from jax import Array


def key_for(seed: int, label: str) -> Array:
    """The key of everything random under `label`: adding another label changes none of it."""
    digest = hashlib.sha256(label.encode()).digest()
    return jax.random.fold_in(jax.random.key(seed), int.from_bytes(digest[:4], "big"))
