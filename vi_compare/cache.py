"""What is kept between runs: compiled code and templates, so that a second run starts at once,
and draws of NUTS."""

from __future__ import annotations

import os
from pathlib import Path

from platformdirs import user_cache_path


def folder() -> Path:
    """The user's cache folder of this package; on Linux ``XDG_CACHE_HOME`` moves it."""
    return user_cache_path("vi_compare", appauthor=False)


def writable(name: str) -> Path | None:
    """A folder inside it, made where it is not there; None where it cannot be written."""
    inside = folder() / name
    try:
        inside.mkdir(parents=True, exist_ok=True)
    except OSError:
        return None
    return inside if os.access(inside, os.W_OK) else None


def use_compilation_cache() -> None:
    """Keep compiled code in the user's cache folder, unless JAX was told otherwise.

    ``JAX_COMPILATION_CACHE_DIR`` names another folder; ``JAX_ENABLE_COMPILATION_CACHE=0``
    turns it off. A folder that cannot be written is done without.
    """
    import jax

    if jax.config.jax_compilation_cache_dir or not jax.config.jax_enable_compilation_cache:
        return
    compiled = writable("compiled")
    if compiled is None:
        return
    jax.config.update("jax_compilation_cache_dir", str(compiled))
    # A run compiles several hundred small programs; together they take most of its time.
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
