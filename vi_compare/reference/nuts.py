"""Draws of a target by NUTS (Hoffman and Gelman 2014), kept by a hash of what was drawn."""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from numpyro.infer import MCMC, NUTS

from vi_compare.cache import folder as cache_folder
from vi_compare.evidence import Draws
from vi_compare.randomness import key_for, split
from vi_compare.reference import PARTS, Reference, from_chains, part
from vi_compare.reference.chains import diagnose
from vi_compare.reference.circles import angles, rolled, unrolled, unrolled_at
from vi_compare.starts import starting_points
from vi_compare.target import Target


@dataclass(frozen=True)
class Sampling:
    """How NUTS is run.

    Attributes:
        chains: number of chains, a multiple of the parts of a reference.
        warmup: warm-up draws of each chain.
        block: draws of each chain between two looks at R-hat and ESS.
        enough: gradients, warm-up included, after which sampling ends if the draws are
            good. Counted, not timed, so that the same command gives the same draws.
        most: gradients after which it ends in any case.
        draws: maximum number of draws of one part.
        dense: maximum dimension for a dense mass matrix; above it, a diagonal one.
        accept: target acceptance probability; high, because steps that are too long for
            the curvature diverge.
        operations: of `enough` gradients, at most; some minute of one core. Where log p takes
            longer there are fewer of them, of warm-up draws, and of draws between two looks.
        fewest: warm-up draws, and draws between two looks, that there are in any case.
        steps: of a trajectory, as many as are usual.
    """

    chains: int = 2 * len(PARTS)
    warmup: int = 1000
    block: int = 1000
    enough: int = 300_000
    most: int = 600_000
    draws: int = 10_000
    dense: int = 60
    accept: float = 0.95
    operations: float = 6e10
    fewest: int = 200
    steps: int = 16

    def within(self, target: Target) -> Sampling:
        """The same, cut to what may be spent on a target."""
        share = self.operations / max(target.operations * self.enough, self.operations)
        cut = lambda number, least=1: max(least, round(share * number))
        return replace(
            self,
            warmup=cut(self.warmup, self.fewest),
            block=cut(self.block, self.fewest),
            enough=cut(self.enough),
            most=cut(self.most),
        )

    @property
    def spared(self) -> str:
        """What was given up, as log p takes long; "" for nothing."""
        usual = Sampling()
        if self.enough >= usual.enough:
            return ""
        return (
            f"as log p takes long, sampling ends after {self.enough:,} gradients where they are "
            f"enough, and not after {usual.enough:,}"
        )

    @property
    def is_possible(self) -> bool:
        """Whether what may be spent is as much as the least that chains take."""
        return self.chains * (self.warmup + self.block) * self.steps <= self.enough

    @property
    def per_part(self) -> int:
        """Number of chains of one part of the reference."""
        return self.chains // len(PARTS)

    @property
    def settings(self) -> dict[str, Any]:
        """As plain data, for the results and for the name of what is kept."""
        return {
            "chains": self.chains,
            "warmup": self.warmup,
            "block": self.block,
            "target_accept_prob": self.accept,
            "dense_mass": self.dense,
            "gradients": [self.enough, self.most],
        }


def nuts_reference(
    target: Target,
    seed: int,
    n: int,
    progress: Callable[[int, int | None, str], None],
    sampling: Sampling = Sampling(),
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
        found = _sample(target, key_for(seed, "reference/nuts"), n, progress, sampling)
        _write(store, found)
    u, diverged, steps = found["u"], float(found["diverged"]), int(found["gradients"])
    thin = max(1, -(-u.shape[1] * sampling.per_part // n))
    settings = sampling.settings | {"gradients_spent": steps}
    return from_chains("nuts", target, _chains(target, u[:, ::thin]), diverged, settings)


def _chains(target: Target, u: np.ndarray) -> Draws:
    """u (chains, n, d) as draws."""
    draws = target.complete(jnp.asarray(u.reshape(-1, target.dim)))
    return Draws(draws.u, draws.values, draws.log_p, chains=len(u))


def _sample(
    target: Target, key: Array, n: int, progress: Callable, sampling: Sampling
) -> dict[str, Any]:
    """u (chains, draws, d), the share of divergent transitions, and gradients spent."""
    start_key, run_key = split(key, 2)
    mcmc = _sampler(target, sampling)
    per_chain = -(-n // sampling.per_part)
    most = -(-per_chain // sampling.block)
    starts = unrolled_at(target, starting_points(target, start_key, sampling.chains))
    blocks: list[np.ndarray] = []
    heights: list[np.ndarray] = []
    diverged, gradients = 0, 0
    progress(0, None, f"{sampling.chains} chains warm up, {sampling.warmup} steps each")
    while True:
        fields = ("diverging", "num_steps", "potential_energy")
        if blocks:
            mcmc.post_warmup_state = mcmc.last_state
            mcmc.run(mcmc.post_warmup_state.rng_key, extra_fields=fields)
        else:
            mcmc.run(run_key, init_params=starts, extra_fields=fields)
        extra = mcmc.get_extra_fields(group_by_chain=True)
        blocks.append(np.asarray(rolled(target, mcmc.get_samples(group_by_chain=True))))
        heights.append(-np.asarray(extra["potential_energy"]))
        steps = int(np.asarray(extra["num_steps"]).sum())
        # Warm-up is not recorded; its trees are about as large.
        gradients += 2 * steps if len(blocks) == 1 else steps
        diverged += int(np.asarray(extra["diverging"]).sum())
        u = np.concatenate(blocks, axis=1)
        # More than were wanted are drawn until the chains agree: nobody knows how many.
        total = most if len(blocks) < most else None
        progress(len(blocks), total, f"{u.shape[0] * u.shape[1]} draws")
        spent_well = gradients >= sampling.enough or len(blocks) >= most
        log_p = np.concatenate(heights, axis=1)
        if gradients >= sampling.most or (spent_well and not _doubtful(u, log_p)):
            return {"u": u, "diverged": diverged / (u.size // u.shape[2]), "gradients": gradients}


def _sampler(target: Target, sampling: Sampling) -> MCMC:
    density = unrolled(target)
    kernel = NUTS(
        potential_fn=lambda x: -density(x),
        target_accept_prob=sampling.accept,
        dense_mass=target.dim <= sampling.dense,
    )
    return MCMC(
        kernel,
        num_warmup=sampling.warmup,
        num_samples=sampling.block,
        num_chains=sampling.chains,
        chain_method="vectorized",
        progress_bar=False,
    )


def _doubtful(u: np.ndarray, log_p: np.ndarray) -> bool:
    """Whether more draws than u (chains, n, d), with log_p (chains, n), are needed; the share
    of divergences is not asked for, because more draws do not mend it."""
    flat = jnp.asarray(u.reshape(-1, u.shape[2]))
    chains = Draws(flat, {}, jnp.asarray(log_p.reshape(-1)), chains=len(u))
    return bool(diagnose(chains, part(chains, PARTS.index("test")), None).doubts)


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
        "format": 3 if angles(target).any() else 2,  # of what is kept
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
