"""Many short chains from inside and outside of a Gaussian, until nothing tells where they began.

They move in rounds, each twice as long as the one before, and in the frame of the chains of the
one before; the last round is what is kept, so that as much is left out as is used. A round that
there is no time for is not begun: the last one goes on. Within a round they are looked at after
every block (`looks`): when they have settled and enough has been drawn, that is the end; else they
go on until what may be spent is spent, and then the draws are doubted.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from vi_compare.estimate import Estimate
from vi_compare.evidence import Draws
from vi_compare.gaussian.frames import MOST, Frame
from vi_compare.randomness import generator, split
from vi_compare.reference.circles import angles
from vi_compare.reference.hmc import Moves, Steps, advance
from vi_compare.reference.looks import Look, look, normal_scores, worths
from vi_compare.reference.places import Places, find_places
from vi_compare.reference.regions import Partition, log_masses
from vi_compare.settings import EFFORTS, Effort
from vi_compare.target import Target
from vi_compare.target.work import afforded


@dataclass(frozen=True)
class Tuning:
    """How chains are run.

    Attributes:
        quarters, sides: chains of one quarter, of those inside and outside, and of the regions,
            follow one another with these periods: each quarter has as many of each.
        chains: number of chains of a target with one region.
        each: of every region, at least, where there are more.
        telling: chains of a region, at least, that are asked by themselves what they are worth.
        most: of all, at most.
        least: gradients that each of them is to have.
        inflated, freedom: chains from outside start at draws of a Student t with so many degrees
            of freedom, and so many times the Gaussian's scale.
        step: of the first iteration, in the frame.
        warm: rounds in which chains that stand still get shorter steps, or are started again.
        slow, quick: acceptance of a chain below which its steps become shorter, and above which
            they become as long as those of the others again.
        shorter, longer: by how much, in log.
        student: draws of all Student t together that the regions' masses are bridged to, and of
            each at least.
        told: one position of so many is told of the way that chains went.
        moves: how they move.
    """

    quarters: int = 4
    sides: int = 2
    chains: int = 128
    each: int = 32
    telling: int = 24
    most: int = 1024
    least: int = 400
    inflated: float = 2.0
    freedom: float = 4.0
    step: float = 0.5
    warm: int = 3
    slow: float = 0.2
    quick: float = 0.6
    shorter: float = 1.5
    longer: float = 0.75
    student: tuple[int, int] = (16_000, 1000)
    told: int = 2
    moves: Moves = field(default_factory=Moves)

    @property
    def measured(self) -> float:
        """Share of the chains that metrics see: all but a quarter."""
        return 1 - 1 / self.quarters

    def number(self, regions: int, effort: Effort) -> int:
        """Of chains, for so many regions; as many as the effort is enough for."""
        period = self.quarters * self.sides * regions
        wanted = self.chains if regions == 1 else max(self.chains, self.each * regions)
        most = min(self.most, effort.most // self.least)
        return max(1, min(wanted, most) // period) * period


def within(effort: Effort, target: Target, operations: float = 1e11) -> Effort:
    """The same, cut where the usual effort would take more than so many operations of log p, one
    or two minutes of one core."""
    operations *= effort.most / EFFORTS["normal"].most
    return replace(effort, most=afforded(operations, target.operations, 1, effort.most))


def can_move(target: Target, effort: Effort, least: int = 64, tuning: Tuning = Tuning()) -> bool:
    """Whether short chains, at least so many, can be a reference of a target. They move over u,
    where an angle has two ends."""
    affordable = within(effort, target).most >= least * tuning.least
    return affordable and target.dim <= MOST and not angles(target).any()


@dataclass(frozen=True)
class Sampled:
    """What short chains have drawn.

    Attributes:
        u: positions (chains, n, d).
        log_p: at them, (chains, n).
        quarter: that each chain belongs to.
        region: where each chain stays.
        outside: whether it started outside.
        partition: the regions.
        masses: log of what each region holds, in nats.
        look: the last one.
        places: that the chains began at.
        moved_back: chains that stood still in a place without mass, and were started again.
        gradients: of all that was done.
        tuning: how they were run.
        way: the start (chains, 1, d), and some positions (chains, n, d) of every block.
        done: iterations that each chain had made by then.
    """

    u: np.ndarray
    log_p: np.ndarray
    quarter: np.ndarray
    region: np.ndarray
    outside: np.ndarray
    partition: Partition
    masses: tuple[Estimate, ...]
    look: Look
    places: Places
    moved_back: int
    gradients: int
    tuning: Tuning
    way: tuple[np.ndarray, ...]
    done: tuple[int, ...]


class _Population:
    """Chains on their way."""

    def __init__(self, target: Target, places: Places, key: Array, tuning: Tuning, effort: Effort):
        self.target, self.tuning = target, tuning
        self.partition = Partition.of(places.frames)
        n = tuning.number(len(places.frames), effort)
        index = np.arange(n)
        self.quarter = index % tuning.quarters
        self.outside = index // tuning.quarters % tuning.sides == 1
        self.region = index // (tuning.quarters * tuning.sides) % len(places.frames)
        self.rng = generator(key)
        self.starts = self._starts()
        self.u = jnp.asarray(self.starts, jnp.result_type(float))
        self.own = np.zeros(n)
        self.common = jnp.log(jnp.asarray(tuning.step, self.u.dtype))
        self.moved_back = 0
        self.gradients = 0
        self.way = [self.starts[:, None]]

    def _starts(self) -> np.ndarray:
        """(chains, d), drawn towards the middle of their region until they are usable."""
        v = self.rng.standard_normal((len(self.region), self.target.dim))
        n = int(self.outside.sum())
        stretch = np.sqrt(self.rng.chisquare(self.tuning.freedom, (n, 1)) / self.tuning.freedom)
        v[self.outside] *= self.tuning.inflated / stretch
        for _ in range(30):
            u = np.asarray(self.partition.out_of(jnp.asarray(v), jnp.asarray(self.region)))
            with np.errstate(all="ignore"):
                log_p = np.asarray(self.target.complete(jnp.asarray(u)).log_p)
            fine = np.isfinite(log_p)
            fine &= np.asarray(self.partition.region_of(jnp.asarray(u))) == self.region
            if fine.all():
                break
            v[~fine] *= 0.7
        return u

    def block(self, key: Array, first: bool, warm: bool) -> tuple[np.ndarray, np.ndarray]:
        """u (chains, block, d) and log p (chains, block) after one block.

        Args:
            first: of its round: the common step is found in it.
            warm: whether single chains get steps of their own, or are moved.
        """
        steps = Steps(self.common, jnp.asarray(self.own, self.u.dtype))
        rate = jnp.asarray(1.0 if first else 0.0, self.u.dtype)
        known = (self.target, self.tuning.moves, self.partition, self.u, jnp.asarray(self.region))
        found = advance(*known, steps, rate, key)
        self.gradients += (int(found.leapfrogs) + 1) * len(self.region)
        self.common, self.u = found.common, found.u[:, -1]
        if warm:
            self._help(np.asarray(found.accept).mean(axis=1), np.asarray(found.log_p))
        u = np.asarray(found.u)
        self.way.append(u[:, 1 :: self.tuning.told])
        return u, np.asarray(found.log_p)

    def _help(self, accept: np.ndarray, log_p: np.ndarray) -> None:
        """Shorter steps for chains that stand still. What stands lower than any other chain has
        been is in no place that has any mass: it goes to where another chain of its region is."""
        tuning, slow = self.tuning, accept < self.tuning.slow
        lost = np.zeros_like(slow)
        for k in range(len(self.partition)):
            here = self.region == k
            if (moving := here & ~slow).any():
                stuck = here & slow & (self.own < 0) & (log_p[:, -1] < log_p[moving].min())
                to = self.rng.choice(np.flatnonzero(moving), stuck.sum())
                self.u = self.u.at[np.flatnonzero(stuck)].set(self.u[to])
                lost |= stuck
        self.moved_back += int(lost.sum())
        longer = np.minimum(0.0, self.own + tuning.longer)
        self.own = np.where(accept > tuning.quick, longer, self.own)
        self.own = np.where(slow, self.own - tuning.shorter, self.own)
        self.own[lost] = 0.0

    def look(self, u: np.ndarray, log_p: np.ndarray) -> Look:
        """At coordinates and log p, each among those of its region: so regions can be looked at
        together."""
        x = np.concatenate([u, log_p[..., None]], axis=2)
        # Where a chain started, log p says no more than the coordinates do.
        start = np.concatenate([self.starts, np.zeros((len(u), 1))], axis=1)
        for k in np.unique(self.region):
            here = self.region == k
            middle, scale = start[here].mean(axis=0), start[here].std(axis=0)
            start[here] = (start[here] - middle) / np.where(scale > 0, scale, 1.0)
            x[here] = normal_scores(x[here])
        seen = look(x, start, self.outside)
        # Chains that go through one region do not speak for those of another.
        for k in np.unique(self.region) if len(self.partition) > 1 else ():
            if (here := self.region == k).sum() >= self.tuning.telling:
                worth = worths(x[here])
                if worth.min() < seen.worth:
                    seen = replace(seen, worth=float(worth.min()), slowest=int(worth.argmin()))
        return seen

    def reframe(self, u: np.ndarray, worth: float) -> None:
        """Frames of the chains' own draws (chains, n, d), drawn towards those they moved in as if
        these were d draws; a chain that is now in another region belongs there."""
        frames = []
        for k, old in enumerate(self.partition.frames):
            own = u[self.region == k]
            n = max(2.0, min(worth, own.shape[1]) * len(own))
            frames.append(_shrunk(own.reshape(-1, self.target.dim), old, n))
        self.partition = Partition.of(frames)
        now = np.asarray(self.partition.region_of(self.u))
        # No region may be left by all chains of a quarter.
        counts = np.zeros((self.tuning.quarters, len(frames)), int)
        np.add.at(counts, (self.quarter, now), 1)
        if counts.all():
            self.region = now

    def sampled(
        self, u: np.ndarray, log_p: np.ndarray, seen: Look, places: Places, key: Array
    ) -> Sampled:
        """What came of it, with what each region holds where there are several."""
        masses: list[Estimate] = []
        if (n := len(self.partition)) > 1:
            own = [self._draws(u[self.region == k], log_p[self.region == k]) for k in range(n)]
            keys = list(jax.random.split(key, n))
            whole, least = self.tuning.student
            masses = log_masses(self.target, self.partition, own, keys, max(least, whole // n))
        known = (u, log_p, self.quarter, self.region, self.outside, self.partition, tuple(masses))
        cost = (self.moved_back, self.gradients)
        done = tuple(i * self.tuning.moves.block for i in range(len(self.way)))
        return Sampled(*known, seen, places, *cost, self.tuning, tuple(self.way), done)

    def _draws(self, u: np.ndarray, log_p: np.ndarray) -> Draws:
        """u (chains, n, d), log_p (chains, n)."""
        flat = jnp.asarray(u.reshape(-1, u.shape[2])), jnp.asarray(log_p.reshape(-1))
        return Draws(flat[0], {}, flat[1], chains=len(u))


def _shrunk(u: np.ndarray, old: Frame, n: float) -> Frame:
    d = u.shape[1]
    share = n / (n + d)
    covariance = share * np.atleast_2d(np.cov(u.T)) + (1 - share) * old.covariance
    try:
        return Frame(u.mean(axis=0), np.linalg.cholesky(covariance))
    except np.linalg.LinAlgError:
        return old


def sample(
    target: Target,
    key: Array,
    effort: Effort,
    progress: Callable[[int, int | None, str], None],
    tuning: Tuning = Tuning(),
) -> Sampled | None:
    """Draws of a target by short chains, or None where no Gaussian is near its mass."""
    place_key, start_key, run_key, mass_key = split(key, 4)
    progress(0, effort.most, "ascents to the modes")
    places = find_places(target, place_key)
    if not places.frames:
        return None
    chains = _Population(target, places, start_key, tuning, effort)
    chains.gradients += places.gradients
    rounds, seen = 0, None
    blocks: list[tuple[np.ndarray, np.ndarray]] = []
    for number in itertools.count():
        is_warm = rounds < tuning.warm
        block_key = jax.random.fold_in(run_key, number)
        blocks.append(chains.block(block_key, first=not blocks, warm=is_warm))
        u, log_p = (np.concatenate(parts, axis=1) for parts in zip(*blocks, strict=True))
        progress(min(chains.gradients, effort.most), effort.most, f"{log_p.size} draws")
        if not is_warm and len(blocks) > 1:
            seen = chains.look(u, log_p)
        is_settled = seen is not None and seen.is_settled
        is_enough = seen is not None and seen.worth * len(u) >= effort.effective
        if (is_settled and is_enough) or chains.gradients >= effort.most:
            break
        # The next round takes about as much as all before; half of one would be worth little.
        has_time = 2 * chains.gradients <= effort.most
        if 2 * len(blocks) >= 2**rounds and has_time and not is_settled:
            chains.reframe(u, seen.worth if seen else 1.0)
            rounds, blocks, seen = rounds + 1, [], None
    return chains.sampled(u, log_p, seen or chains.look(u, log_p), places, mass_key)
