"""Modes of a target, found by gradient ascent on log p over u from given draws.

A point belongs to the basin where its ascent ends. Two end points are one mode when they
are close, or when on the straight line between them log p never falls more than
`ModeSearch.saddle` below the lower one: shallower dents are not called modes. Steps are
short (`ModeSearch.longest_step`) so that an ascent does not leap over a saddle.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from scipy.spatial.distance import cdist

from vi_compare.batches import BATCH, in_batches
from vi_compare.evidence import Draws, Modes, effective
from vi_compare.formatting import minus
from vi_compare.gaussian.quasi_newton import Dense, descend, together
from vi_compare.randomness import power_of_two
from vi_compare.reference.circles import across_the_seam
from vi_compare.scores import ROWS, values_and_slopes
from vi_compare.target import Target
from vi_compare.target.work import afforded


@dataclass(frozen=True)
class ModeSearch:
    """How modes are looked for; lengths are in standard deviations of the draws.

    Attributes:
        dimensions: maximum dimension; above it `draws` ÷ d would be fewer than `pilot`.
        draws: draws of each set that are followed to their mode in one dimension; in d
            dimensions, where an ascent costs more, a d-th of them.
        pilot: draws of each set that are followed first. For most targets one batch of all
            sets together shows that there is one mode: a basin with 1 % of a set is hit by
            300 draws of it in 95 cases of 100.
        operations: of log p, at most, that following `draws` may take, some 15 seconds of one
            core: where log p takes longer, fewer are followed, and as many as `pilot` in any case.
        ascent: evaluations of one ascent, about.
        saddle: smallest depth of a dent in log p, in nats, that separates two modes.
        close: distance below which two end points are one mode.
        longest_step: maximum length of a step of an ascent.
        still: an ascent ends with a step shorter than this.
        iterations: maximum number of steps of an ascent.
        nearest: known modes that a new end point is compared with along straight lines.
        caught: an ascent ends this near to a mode that the pilot has found; where modes are
            close, at a third of the distance between them.
        finishing: maximum number of evaluations spent on going from where ascents stopped
            short to maxima. A density without maxima would take any number.
    """

    dimensions: int = 50
    draws: int = 20_000
    pilot: int = 400
    operations: float = 3e10
    ascent: int = 60
    saddle: float = 0.1
    close: float = 0.02
    longest_step: float = 0.1
    still: float = 1e-4
    iterations: int = 400
    nearest: int = 5
    caught: float = 0.1
    finishing: int = 100_000

    def followed(self, target: Target, sets: int) -> int:
        """How many draws of each of so many sets are followed to their modes."""
        each = sets * self.ascent * target.operations
        return afforded(self.operations, each, self.pilot, self.draws // target.dim)


@dataclass(frozen=True)
class NoModes:
    """Modes were not looked for, or could not be.

    Attributes:
        reason: why, in words.
    """

    reason: str


@dataclass(frozen=True)
class FoundModes:
    """The modes, and the share of each set of draws in every basin.

    Attributes:
        locations: (M, d) over u, in the order of the first set's shares.
        names: (M,) for people: "the mode at x = −2", or "mode 3" where that is too long.
        places: (M,) the same without an article, for headings: "x = −2", or "mode 3".
        shares: {set: (M,)}.
        n: number of draws of each set that were assigned to a mode.
        members: {set: (m,)} the mode of each of the first m draws.
        effective: (M,) effective sample size of each of the first set's shares.
    """

    locations: np.ndarray
    names: tuple[str, ...]
    places: tuple[str, ...]
    shares: dict[str, np.ndarray]
    n: int
    members: dict[str, np.ndarray]
    effective: np.ndarray

    def seen_by(self, fit: str) -> Modes:
        """What the metrics of one fit look at; the target's sets are "test" and "floor"."""
        target, floor = self.shares["test"], self.shares["floor"]
        return Modes(self.names, target, floor, self.shares[fit], self.n, self.effective)


def find_modes(
    target: Target, sets: Mapping[str, Draws], search: ModeSearch = ModeSearch()
) -> FoundModes | NoModes:
    """Modes found from the draws of all sets, or the reason why they are not looked for."""
    if target.dim > search.dimensions:
        return NoModes(f"modes are not looked for above {search.dimensions} dimensions")
    few, most = min(search.pilot, BATCH // len(sets)), search.followed(target, len(sets))
    try:
        pilot = _follow(target, sets, few, search, np.empty((0, target.dim)))
        if len(pilot.names) == 1 or most <= few:
            return pilot
        return _follow(target, sets, most, search, pilot.locations)
    except _OutOfBudget:
        return NoModes(
            f"the search for modes was given up after {search.finishing:,} evaluations: the "
            f"density climbs on from most draws, as where it has no maximum"
        )


class _OutOfBudget(Exception):
    """More evaluations are needed than `ModeSearch.finishing`."""


def _follow(
    target: Target, sets: Mapping[str, Draws], most: int, search: ModeSearch, known: np.ndarray
) -> FoundModes:
    """Modes from at most `most` draws of each set, and those known (M, d)."""
    followed = {name: _first(draws, most) for name, draws in sets.items()}
    pooled = np.concatenate(list(followed.values()))
    scale = _scale(pooled)
    # A batch ascends until its last draw is up: neighbours have about as far to go.
    along = np.argsort(pooled[:, 0], kind="stable")
    back = np.argsort(along)
    caught = _catch(known, scale, search)
    ascended = in_batches(partial(_ascend, target, search), scale, *caught)(pooled[along])
    ends, log_p = (np.asarray(a)[back] for a in ascended)
    ok = np.isfinite(log_p)
    if len(known):
        ok &= _distance(ends, known, scale).min(axis=1) > caught[1]
    tops = _merge(target, ends[ok], log_p[ok], scale, search, known)
    one = across_the_seam(target, tops, search.saddle)
    modes = tops[np.unique(one, return_index=True)[1]]
    member = one[np.argmin(_distance(ends, tops, scale), axis=1)]
    ends_at = np.cumsum([len(u) for u in followed.values()])[:-1]
    members = dict(zip(followed, np.split(member, ends_at), strict=True))
    share = lambda m: np.bincount(m, minlength=len(modes)) / len(m)
    first = next(iter(members))
    order = np.argsort(-share(members[first]), kind="stable")
    rank = np.argsort(order)
    members = {name: rank[m] for name, m in members.items()}
    chains = sets[first].chains
    worth = [effective((members[first] == m).astype(float), chains) for m in range(len(modes))]
    return FoundModes(
        modes[order],
        *_names(target, modes[order]),
        {name: share(m) for name, m in members.items()},
        min(map(len, members.values())),
        members,
        np.asarray(worth),
    )


def _first(draws: Draws, most: int) -> np.ndarray:
    """At most `most` draws (m, d): the first ones, or of Markov chains each chain thinned."""
    u = np.asarray(draws.u)
    if not draws.chains:
        return u[:most]
    step, d = -(-len(draws) // most), u.shape[1]
    return u.reshape(draws.chains, -1, d)[:, ::step].reshape(-1, d)


def _names(target: Target, modes: np.ndarray) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Names and places: "the mode at x = −2" and "x = −2" where that says all, "mode 3" for
    both where it would be too long or not tell two modes apart."""
    numbers = tuple(f"mode {m}" for m in range(1, len(modes) + 1))
    if target.dim > 2:
        return numbers, numbers
    values = jax.tree.map(np.asarray, target.complete(jnp.asarray(modes)).values)
    where = lambda m: ", ".join(f"{site} = {_place(value[m])}" for site, value in values.items())
    places = tuple(minus(where(m)) for m in range(len(modes)))
    if len(set(places)) < len(places):
        return numbers, numbers
    return tuple(f"the mode at {place}" for place in places), places


def _place(value: np.ndarray) -> str:
    """ "−2" of a number, "(3, −1.5)" of several."""
    # + 0.0 turns a rounded −0 into 0
    numbers = [f"{x + 0.0:g}" for x in np.round(np.ravel(value), 2)]
    return numbers[0] if np.ndim(value) == 0 else f"({', '.join(numbers)})"


def _scale(u: np.ndarray) -> np.ndarray:
    """(d,) a robust spread per coordinate: heavy tails must not lengthen the steps."""
    low, high = np.quantile(u, [0.16, 0.84], axis=0)
    return np.maximum((high - low) / 2, 1e-12)


def _catch(known: np.ndarray, scale: np.ndarray, search: ModeSearch) -> tuple[np.ndarray, float]:
    """Known modes in units of `scale`, filled up with places that nothing reaches to a number
    that many targets share, and how near an ascent has to come to one."""
    full = np.full((power_of_two(max(8, len(known))), len(scale)), np.inf)
    full[: len(known)] = known / scale
    apart = _distance(known, known, scale)[~np.eye(len(known), dtype=bool)]
    return full, min(search.caught, apart.min(initial=np.inf) / 3)


@partial(jax.jit, static_argnums=(0, 1))
def _ascend(
    target: Target, search: ModeSearch, scale: Array, known: Array, near: Array, u: Array
) -> tuple[Array, Array]:
    """Scaled gradient ascent that ends where it comes `near` to one of the `known` modes; a step
    that leads down is taken back, and the rate shrinks."""
    value_and_slope = jax.value_and_grad(lambda x: target.log_density(x * scale))

    def ascent(x):
        def more(carry):
            i, x, *_, moved = carry
            caught = jnp.min(jnp.mean((x - known) ** 2, axis=1)) < near**2
            return (i < search.iterations) & (moved > search.still) & ~caught

        def step(carry):
            i, x, log_p, slope, rate, _ = carry
            move = rate * slope
            length = jnp.sqrt(jnp.sum(move**2))
            move = move * jnp.minimum(1.0, search.longest_step / jnp.maximum(length, 1e-300))
            tried = x + move
            new_log_p, new_slope = value_and_slope(tried)
            up = new_log_p > log_p
            keep = lambda new, old: jnp.where(up, new, old)
            rate = jnp.where(up, _rate(move, slope - new_slope, rate), 0.3 * rate)
            moved = jnp.sqrt(jnp.sum(move**2))
            kept = (keep(tried, x), keep(new_log_p, log_p), keep(new_slope, slope))
            return i + 1, *kept, rate, moved

        log_p, slope = value_and_slope(x)
        start = (0, x, log_p, slope, jnp.asarray(0.1, x.dtype), jnp.asarray(jnp.inf, x.dtype))
        _, x, log_p, *_ = jax.lax.while_loop(more, step, start)
        return x * scale, log_p

    return target.over_points(ascent)(u / scale)


def _rate(step: Array, fell: Array, rate: Array) -> Array:
    """The next rate: s·y/y·y of the last step s and the fall y of the slope along it, the
    shorter one of Barzilai and Borwein (1988, "Two-point step size gradient methods")."""
    bent = step @ fell
    fitting = bent / jnp.maximum(fell @ fell, jnp.finfo(step.dtype).tiny)
    return jnp.where(bent > 0, jnp.clip(fitting, 0.1 * rate, 10 * rate), 1.5 * rate)


def _distance(a: np.ndarray, b: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """Root mean square over the coordinates (n, m), of a (n, d) from b (m, d)."""
    return cdist(a / scale, b / scale) / np.sqrt(len(scale))


def _merge(
    target: Target,
    ends: np.ndarray,
    log_p: np.ndarray,
    scale: np.ndarray,
    search: ModeSearch,
    modes: np.ndarray,
) -> np.ndarray:
    """Distinct maxima (M, d): those in `modes`, and others, the highest first."""
    ends, log_p = ends[np.argsort(-log_p)], np.sort(log_p)[::-1]
    left, joined = search.finishing, partial(_joined, target, scale=scale, search=search)
    while len(ends):
        index = [0]
        if not joined(modes, ends[0], log_p[0]):
            # On a curved ridge an ascent can stop short of its mode. As many as fit in one call.
            index = _apart(ends, scale, search.close, ROWS)
            tops, heights, spent = _finish(target, ends[index], scale, left)
            left -= spent
            for i, top, height in zip(index, tops, heights, strict=True):
                if not (joined(modes, ends[i], log_p[i]) or joined(modes, top, height)):
                    modes = np.vstack([modes, top])
        far = _distance(ends, ends[index], scale).min(axis=1) > search.close
        far[0] = False
        ends, log_p = ends[far], log_p[far]
    return modes


def _apart(points: np.ndarray, scale: np.ndarray, close: float, most: int) -> list[int]:
    """Where the first `most` points (n, d) are of which no two are close."""
    chosen = [0]
    for i in range(1, len(points)):
        if len(chosen) == most:
            break
        if _distance(points[i : i + 1], points[chosen], scale).min() > close:
            chosen.append(i)
    return chosen


def _joined(
    target: Target,
    modes: np.ndarray,
    point: np.ndarray,
    height: float,
    *,
    scale: np.ndarray,
    search: ModeSearch,
) -> bool:
    """Whether a straight line without a saddle leads from `point` to a nearby mode."""
    if not len(modes):
        return False
    line = np.linspace(0, 1, 33)[1:-1, None]
    near = modes[np.argsort(_distance(point[None], modes, scale)[0])[: search.nearest]]
    points = near[:, None] + line * (point - near)[:, None]
    heights, _ = values_and_slopes(target, points.reshape(-1, len(point)))
    return bool((np.nanmin(heights.reshape(len(near), -1), axis=1) >= height - search.saddle).any())


def _finish(
    target: Target, starts: np.ndarray, scale: np.ndarray, most: int
) -> tuple[np.ndarray, np.ndarray, int]:
    """From points (n, d) near maxima to the maxima, side by side by BFGS: they, log p there
    (n,), and the evaluations that took.

    Raises:
        _OutOfBudget: when more than `most` evaluations are needed.
    """
    spent = 0

    def objective(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        nonlocal spent
        if (spent := spent + len(x)) > most:
            raise _OutOfBudget
        heights, slopes = values_and_slopes(target, x * scale)
        return -heights, -slopes * scale

    searches = [descend(x, Dense, steps=200, small=1e-9) for x in starts / scale]
    with np.errstate(all="ignore"):  # a trial that overflows is a step too long
        ends = [path[-1] for path in together(searches, objective)]
    tops = np.stack([end.x for end in ends]) * scale
    return tops, -np.array([end.value for end in ends]), spent
