"""A reference of short chains: which draws are in which part, and what it is doubted for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import jax.numpy as jnp
import numpy as np

from vi_compare import formatting
from vi_compare.evidence import Draws
from vi_compare.randomness import generator, key_for
from vi_compare.reference import Passage, Reference
from vi_compare.reference.chains import Diagnosis, Limits
from vi_compare.reference.places import Places
from vi_compare.reference.regions import shares
from vi_compare.reference.short_chains import Sampled, sample
from vi_compare.reference.stein import stein_check
from vi_compare.reference.trail import Trail, in_blocks
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
    rng = generator(key_for(seed, "reference/chains/order"))
    part = lambda *quarters: _part(target, found, quarters, n, rng)
    train, pilot, bridge, test = part(0), part(1), part(2, 3), part(1, 2, 3)
    check = stein_check(target, test)
    known = (check, _diagnosis(found, test), _settings(found, effort), _doubts(target, found))
    return Reference(
        "chains", train, test, train, bridge, pilot, *known, _passage(target, found)
    )  # fmt: skip


def _passage(target: Target, found: Sampled) -> Passage:
    """How the chains of each side went, every region with its share of the target."""
    held = shares(found.masses)[0] if found.masses else np.ones(1)
    weight = (held / np.bincount(found.region, minlength=len(held)))[found.region]
    rows = np.concatenate([u.reshape(-1, target.dim) for u in found.way])
    draws = target.complete(jnp.asarray(rows))
    blocks = in_blocks(draws.values, found.way)
    trails = []
    for side in (~found.outside, found.outside):
        mine = [np.repeat(side, u.shape[1]) for u in found.way]
        own = [
            {site: a[rows] for site, a in block.items()}
            for block, rows in zip(blocks, mine, strict=True)
        ]
        weights = [np.repeat(weight[side], u.shape[1]) for u in found.way]
        worth = weight[side].sum() ** 2 / (weight[side] ** 2).sum()
        trails.append(Trail.of(found.done, own, weights, worth, dict(draws.coords)))
    return Passage(*trails)


def _part(
    target: Target, found: Sampled, quarters: Sequence[int], n: int, rng: np.random.Generator
) -> Draws:
    """The draws of some quarters of the chains."""
    mine = np.isin(found.quarter, quarters)
    u = found.u[mine]
    if len(found.partition) > 1:
        u = _in_proportion(u, found.region[mine], shares(found.masses)[0], n, rng)
    else:
        u = u[:, :: max(1, -(-u.shape[0] * u.shape[1] // n))]
    draws = target.complete(jnp.asarray(u.reshape(-1, target.dim)))
    return replace(draws, chains=len(u))


def _in_proportion(
    u: np.ndarray, region: np.ndarray, wanted: np.ndarray, n: int, rng: np.random.Generator
) -> np.ndarray:
    """Chains that go from region to region as if these had no walls between them, (c, m, d), of
    together at most n draws.

    Each is made of one chain of every region. Where it is next is drawn by the shares that are
    `wanted`, and there it goes on with the next draw of that region's chain: what a chain
    remembers within a region it goes on remembering, and of no draw there are two.
    """
    rows = [np.flatnonzero(region == k) for k in range(len(wanted))]
    # Of a region that holds next to nothing there may be no draw.
    held = wanted * u.shape[1] >= wanted.max()
    many = min(len(rows[k]) for k in np.flatnonzero(held))
    wanted = np.where(held, wanted, 0.0)
    length = min(int((u.shape[1] - 1) / wanted.max()), max(1, n // many))
    chains = []
    for i, places in enumerate(_spread(wanted, many * length).reshape(many, length)):
        own = {
            k: iter(u[rows[k][i], np.linspace(0, u.shape[1], m, endpoint=False).astype(int)])
            for k, m in enumerate(np.bincount(places))
            if m
        }
        chains.append([next(own[k]) for k in rng.permutation(places)])
    return np.array(chains)


def _spread(shares: np.ndarray, n: int) -> np.ndarray:
    """n numbers of regions (n,), as many of each as its share, evenly spread."""
    numbers = np.floor(n * shares / shares.sum()).astype(int)
    short = n - numbers.sum()
    numbers[np.argsort(numbers - n * shares, kind="stable")[:short]] += 1
    phases = np.concatenate([(np.arange(k) + 0.5) / max(1, k) for k in numbers])
    return np.repeat(np.arange(len(shares)), numbers)[np.argsort(phases, kind="stable")]


def _diagnosis(found: Sampled, test: Draws) -> Diagnosis:
    """Of the chains: their worth is that of what they did, whatever is kept of it."""
    limits = Limits()
    chains, length = found.u.shape[:2]
    ess = min(len(test), found.look.worth * found.tuning.measured * chains)
    doubts = []
    if ess < limits.ess:
        words = f"it is worth {ess:.0f} independent draws, fewer than {limits.ess}"
        doubts.append(Doubt(Concern.FEW_DRAWS, words))
    known = (None, ess, None, chains, chains * length)
    return Diagnosis(*known, tuple(doubts), limits)


def _doubts(target: Target, found: Sampled) -> tuple[Doubt, ...]:
    doubts = []
    if not found.look.is_settled:
        words = (
            f"after {formatting.count(found.gradients)} gradients its chains have not settled: "
            f"{_told(target, found)}"
        )
        doubts.append(Doubt(Concern.STILL_MOVING, words))
    doubts += _of_places(found.places)
    if len(found.partition) > 1:
        doubts += _of_shares(found)
    return tuple(doubts)


def _told(target: Target, found: Sampled) -> str:
    """What tells where chains started, and what it would take until nothing does."""
    told = {
        "bracket": "those from inside and from outside still differ",
        "trend": "they still move one way",
        "memory": "they are where they started, by their rank",
    }
    seen = found.look
    apart = {name: getattr(seen, name) for name in told}
    worst = max(apart, key=lambda name: apart[name])
    if apart[worst] > seen.limit:
        return f"{told[worst]}, by {apart[worst]:.1f} standard errors"
    # Each round is as long as all before; a chain is worth what its last round is.
    more = found.gradients * (seen.limits.worth / seen.worth - 1)
    return (
        f"in {_margin(target, seen.slowest)} each is worth {seen.worth:.1f} independent draws, and "
        f"should be worth {seen.limits.worth:g}; about {formatting.count(round(int(more), -4))} "
        f"more gradients would be needed"
    )


def _margin(target: Target, column: int) -> str:
    """The name of a column of a look: a coordinate of u, or log p."""
    return "log p" if column == target.dim else target.coordinates[column]


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
