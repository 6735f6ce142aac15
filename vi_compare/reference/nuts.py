"""Draws of a target by NUTS (Hoffman and Gelman 2014), kept by a hash of what was drawn."""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import warnings
from collections.abc import Callable
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from vi_compare.cache import folder as cache_folder
from vi_compare.evidence import Draws
from vi_compare.randomness import key_for
from vi_compare.reference import Reference, from_chains
from vi_compare.reference.nuts_chains import USUAL, Sampling, sample
from vi_compare.target import Target


def nuts_reference(
    target: Target,
    seed: int,
    n: int,
    progress: Callable[[int, int | None, str], None],
    sampling: Sampling = USUAL,
) -> Reference:
    """Draws by NUTS, at most `n` a part; the same from the cache where they are known.

    Blocks of draws until there are enough of them with good R-hat and ESS, or
    `sampling.most` gradients are spent; what is then wrong stands in the reference's doubts.
    """
    sampling = sampling.within(target)
    n = min(n, sampling.draws)
    store = cache_folder() / "nuts" / f"{_name(target, seed, n, sampling)}.npz"
    found = _read(store, (sampling.chains, target.dim))
    if found is None:
        found = sample(target, key_for(seed, "reference/nuts"), n, progress, sampling)
        _write(store, found)
    u, diverged, steps = found["u"], float(found["diverged"]), int(found["gradients"])
    settings = sampling.settings | {"gradients_spent": steps}
    draws = _chains(target, u[:, :: sampling.thinning(u.shape[1], n)])
    return from_chains("nuts", target, draws, diverged, settings)


def _chains(target: Target, u: np.ndarray) -> Draws:
    """u (chains, n, d) as draws."""
    draws = target.complete(jnp.asarray(u.reshape(-1, target.dim)))
    return replace(draws, chains=len(u))


def _name(target: Target, seed: int, n: int, sampling: Sampling) -> str:
    """Hash of the log density (its program and its data), the sampler and the versions."""
    jaxpr = jax.make_jaxpr(target._log_density)(jnp.zeros(target.dim))
    digest = hashlib.sha256()
    # Functions are printed with their addresses, which mean nothing.
    digest.update(re.sub(r"0x[0-9a-f]+", "", str(jaxpr.jaxpr)).encode())
    for constant in jaxpr.consts:
        array = np.asarray(constant)
        _add(digest, str(array.dtype), array)
    facts = {
        "format": 4,  # of what is kept
        "settings": sampling.settings,
        "seed": seed,
        "n": n,
        "versions": {name: version(name) for name in ("numpyro", "jax", "jaxlib")},
        "device": jax.devices()[0].device_kind,
        "x64": bool(jax.config.jax_enable_x64),
    }
    digest.update(json.dumps(facts, sort_keys=True).encode())
    return digest.hexdigest()[:32]


def _read(path: Path, shape: tuple[int, int]) -> dict[str, Any] | None:
    """What was kept, of so many (chains, dimensions), or None where nothing is. What is damaged
    counts as nothing, with a warning."""
    try:
        with path.open("rb") as file, np.load(file) as held:
            found = {name: held[name] for name in ("u", "diverged", "gradients")}
            whole = str(held["checksum"]) == _checksum(path.stem, found)
        if whole and (len(found["u"]), found["u"].shape[-1]) == shape:
            return found
    except OSError:
        return None
    except Exception:  # zip files, pickles and shapes each have their own way to be broken
        pass
    warnings.warn(f"the draws kept in {path} are damaged; NUTS draws them again", stacklevel=3)
    return None


def _checksum(name: str, found: dict[str, Any]) -> str:
    """Of the arrays, and of what they are draws of."""
    digest = hashlib.sha256(name.encode())
    for key in sorted(found):
        _add(digest, key, np.asarray(found[key], float))
    return digest.hexdigest()


def _add(digest: Any, what: str, array: np.ndarray) -> None:
    digest.update(f"{what}{array.shape}".encode())
    digest.update(np.ascontiguousarray(array).tobytes())


def _write(path: Path, found: dict[str, Any]) -> None:
    """Keep for the next run; a folder that cannot be written is done without."""
    scratch = path.with_suffix(f".{np.random.default_rng().integers(1 << 30)}.tmp.npz")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        np.savez(scratch, checksum=_checksum(path.stem, found), **found)
        scratch.replace(path)
    except OSError:
        with contextlib.suppress(OSError):
            scratch.unlink(missing_ok=True)
