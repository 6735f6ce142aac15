"""A reference of short chains: which draws are in which part, and what it is doubted for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

from vi_compare import formatting
from vi_compare.evidence import Draws
from vi_compare.randomness import key_for
from vi_compare.reference import Reference
from vi_compare.reference.chains import Diagnosis, Limits, smallest_ess
from vi_compare.reference.looks import Look
from vi_compare.reference.places import Places
from vi_compare.reference.regions import shares
from vi_compare.reference.short_chains import Sampled, sample
from vi_compare.reference.stein import stein_check
from vi_compare.settings import Effort
from vi_compare.target import Target
from vi_compare.verdict import Concern, Doubt


def chains_reference(
    target: Target,
    seed: int,
    n: int,
    effort: Effort,
    progress: Callable[[int, int | None, str], None],
) -> Reference | None:
    """Draws of short chains, at most about `n` a part; None where they have nowhere to start.

    A quarter of the chains is for what is fitted to draws and for noise floors, the others are
    measured on: as draws made elsewhere, they are not drawn again.
    """
    found = sample(target, key_for(seed, "reference/chains"), effort, progress)
    if found is None:
        return None
    part = lambda *quarters: _part(target, found, quarters, n)
    train, pilot, bridge, test = part(0), part(1), part(2, 3), part(1, 2, 3)
    check = stein_check(target, test)
    known = (check, _diagnosis(found, test), _settings(found, effort), _doubts(found))
    return Reference("chains", train, test, train, bridge, pilot, *known)


def _part(target: Target, found: Sampled, quarters: Sequence[int], n: int) -> Draws:
    """The draws of some quarters of the chains."""
    mine = np.isin(np.arange(len(found.u)) % found.tuning.quarters, quarters)
    u, region = found.u[mine], found.region[mine]
    if len(found.partition) == 1:
        u = u[:, :: max(1, -(-u.shape[0] * u.shape[1] // n))]
        return _draws(target, u.reshape(-1, target.dim), len(u))
    return _draws(target, _in_proportion(found, u, region, n), 0)


def _draws(target: Target, u: np.ndarray, chains: int) -> Draws:
    draws = target.complete(jnp.asarray(u))
    return Draws(draws.u, draws.values, draws.log_p, chains=chains)


def _in_proportion(found: Sampled, u: np.ndarray, region: np.ndarray, n: int) -> np.ndarray:
    """Draws (m, d), about independent, of every region as many as its share of the target asks
    for; m as large as that can be without taking one twice, and at most n."""
    every = max(1, int(np.ceil(u.shape[1] / found.look.worth)))
    there = [u[region == k, ::every].reshape(-1, u.shape[2]) for k in range(len(found.partition))]
    wanted, _ = shares(found.masses)
    have = np.array(list(map(len, there)))
    m = min(n, *(have[wanted > 0] / wanted[wanted > 0]))
    numbers = np.minimum(have, np.round(wanted * m).astype(int))
    spread = [
        own[np.linspace(0, len(own), k, endpoint=False).astype(int)]
        for own, k in zip(there, numbers, strict=True)
    ]
    return np.concatenate(spread)


def _diagnosis(found: Sampled, test: Draws) -> Diagnosis:
    """Of the chains, by tests that rest on as many as there are: see `looks`."""
    limits = Limits()
    ess = smallest_ess(test, limits)
    chains, length = found.u.shape[:2]
    doubts = []
    if ess < limits.ess:
        words = f"it is worth {ess:.0f} independent draws, fewer than {limits.ess}"
        doubts.append(Doubt(Concern.FEW_DRAWS, words))
    known = (None, ess, None, chains, chains * length)
    return Diagnosis(*known, tuple(doubts), limits)


def _doubts(found: Sampled) -> tuple[Doubt, ...]:
    doubts = []
    if not found.look.is_settled:
        told = f"after {formatting.count(found.gradients)} gradients its chains {_told(found.look)}"
        doubts.append(Doubt(Concern.STILL_MOVING, told))
    doubts += _of_places(found.places)
    if len(found.partition) > 1:
        doubts += _of_shares(found)
    return tuple(doubts)


def _told(seen: Look) -> str:
    """What tells where chains started."""
    told = {
        "bracket": "those from inside and from outside still differ",
        "trend": "they still move one way",
        "memory": "they are where they started, by their rank",
    }
    apart = {name: getattr(seen, name) for name in told}
    worst = max(apart, key=lambda name: apart[name])
    if apart[worst] > seen.limit:
        return f"have not settled: {told[worst]}, by {apart[worst]:.1f} standard errors"
    return (
        f"have not settled: each is worth {seen.worth:.1f} independent draws in the margin that "
        f"takes longest, and should be worth {seen.limits.worth:g}"
    )


def _of_places(places: Places) -> list[Doubt]:
    if not places.is_countless:
        return []
    words = (
        f"{places.singles} of {places.ascents} ascents ended where no other did: it has more modes "
        f"than can be counted, and most of them were not visited"
    )
    return [Doubt(Concern.MISSED_MODE, words)]


def _of_shares(found: Sampled, factor: float = 1.5, least: float = 0.01) -> list[Doubt]:
    """About regions with more than `least` of the target whose mass is not known to a `factor`,
    with 95 % confidence."""
    masses, _ = shares(found.masses)
    lost = [e for e in found.masses if e.value is None]
    if lost:
        words = f"the mass of {len(lost)} of its {len(masses)} regions is not known"
        return [Doubt(Concern.UNKNOWN_SHARES, f"{words}: {lost[0].reason}")]
    errors = np.array([e.standard_error or 0.0 for e in found.masses])
    worst = float(np.exp(1.96 * errors[masses > least].max()))
    if worst <= factor:
        return []
    words = f"the mass of one of its {len(masses)} regions is known to a factor of {worst:.1f} only"
    return [Doubt(Concern.UNKNOWN_SHARES, words)]


def _settings(found: Sampled, effort: Effort) -> dict[str, Any]:
    """How the draws were made, as plain data."""
    seen, (chains, length) = found.look, found.u.shape[:2]
    out = {
        "chains": chains,
        "from_outside": int(found.outside.sum()),
        "iterations_kept": length,
        "moved_back": found.moved_back,
        "ascents": found.places.ascents,
        "effective": effort.effective,
        "gradients": effort.most,
        "gradients_spent": found.gradients,
        "look": {
            "bracket": seen.bracket,
            "trend": seen.trend,
            "memory": seen.memory,
            "nested_rhat": seen.nested_rhat,
            "limit": seen.limit,
            "worth": seen.worth,
            "worth_needed": seen.limits.worth,
        },
    }
    if len(found.partition) > 1:
        masses, errors = shares(found.masses)
        order = np.argsort(-masses, kind="stable")
        out["regions"] = [
            {"share": float(masses[k]), "standard_error": float(errors[k])} for k in order
        ]
    return out
