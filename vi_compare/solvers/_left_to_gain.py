"""What a fit has left to gain: a search from its end, judged on draws that it has not seen.

A loss that has stopped falling does not tell: steps that are small for the target's scales creep,
and a step size too large for them jumps. So the end of any fit, of any guide and divergence, is
taken as the start of one more search, of another kind.

1. Its directions are natural: whitened by the Fisher information of q, E_q[s sᵀ] with s the
   score ∇ log q in the guide's unconstrained parameters. No scale of a parameter and no
   correlation between two of them matters then. Where parameters hardly change q, they could
   go so far that nothing linear holds; so the search is damped (Levenberg 1944), in stages.
2. The divergence on draws held fixed is an ordinary function; L-BFGS takes a few steps down it.
3. Fresh draws choose how far along that path to go, and others measure what it gained, pair by
   pair. So the gain is never more than what is left, up to its standard error, and a search that
   has fitted its own draws is found to have gained nothing.

A divergence that knows a better question answers by `Divergence.optimality_gap`.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.flatten_util import ravel_pytree
from scipy import sparse

from vi_compare import families
from vi_compare.approximation import GuideApproximation
from vi_compare.divergences import Divergence
from vi_compare.errors import InputError
from vi_compare.estimate import Estimate
from vi_compare.evidence import Draws
from vi_compare.families import GaussianMixture
from vi_compare.gaussian.natural_gradient import ENOUGH, LOST
from vi_compare.gaussian.quasi_newton import Limited, descend, together
from vi_compare.randomness import generator, split
from vi_compare.scores import values_and_slopes
from vi_compare.solvers import Cost
from vi_compare.solvers._pair import Pair, nearest_pair
from vi_compare.solvers._restarts import jeffreys
from vi_compare.target.work import afforded


@dataclass(frozen=True)
class LeftEffort:
    """How hard the question looks: some 70,000 gradients of log p for each component where
    there is nothing left to gain, a few per cent of what a stochastic fit takes, and at most
    125,000; up to half as many again for a mixture, whose nearest components are tried elsewhere.

    Attributes:
        draws: number of draws of each component that the search holds fixed.
        draws_of_data: the same for a model that sees minibatches: the question asks for all
            data each time, and a fit of it is measured on some 20,000 such draws.
        operations: of log p at all draws that the search asks for, at most, some 15 seconds of one
            core: where log p takes longer, there are fewer `draws`.
        fewest: that there are in any case.
        passes: over all draws, of a search that finds nothing.
        fixed_draws: the same for a divergence against fixed draws, which costs no log p and has
            no less noise the nearer q is.
        particles: minimum number of draws of one estimate, of which there are as many as these
            draws make, one after the other. XLA takes ten times as long for the same draws in
            estimates of 128 as of 32, where a density solves triangles.
        estimates: minimum number of estimates, for their spread. Each is the divergence as it was
            trained, on no fewer draws than it asks for.
        choosing, measuring: number of such batches of fresh estimates that choose, and measure.
        deciding: number of batches in place of the latter, where these leave undecided on which
            side of `ENOUGH` the gain is.
        damping: added, stage by stage, to the Fisher information in units of its diagonal: little
            where it is nearly singular and the optimum is far in parameters and near in nats,
            much where a small step already leaves what is linear.
        farthest: maximum length of a stage in the whitened directions, where half the square of
            a length is a KL in nats; a gap has to be seen and not to be closed.
        evaluations: maximum number of evaluations of the objective in a stage.
        in_vain: maximum number of evaluations in a row that are no better than one before.
        steps: maximum number of its steps.
        memory: pairs that L-BFGS remembers.
        tolerance: gain of a step in nats; three in a row below it end the search.
        fisher_draws: number of draws of q for its Fisher information: as many for each
            parameter as this, between the two limits.
        parameters: maximum number for a dense Fisher information; above it its diagonal is
            taken.
        directions: number of those along which two components of a mixture are moved apart.
        distances: how far from the two, in their standard deviations, one of them is put, where
            log p is highest of `around` points; the best of all these is searched from.
    """

    draws: int = 2048
    draws_of_data: int = 1024
    operations: float = 3e10
    fewest: int = 512
    passes: int = 34
    fixed_draws: int = 8192
    particles: int = 32
    estimates: int = 16
    choosing: int = 1
    measuring: int = 3
    deciding: int = 12
    damping: tuple[float, ...] = (1e-6, 1e-3, 0.1)
    farthest: float = 3.0
    evaluations: int = 16
    in_vain: int = 5
    steps: int = 16
    memory: int = 16
    tolerance: float = 1e-4
    fisher_draws: tuple[int, int, int] = (4, 2048, 8192)
    parameters: int = 1000
    directions: int = 4
    distances: tuple[float, ...] = (3.0, 6.0, 12.0)
    around: int = 256

    def dealt(self, divergence: Divergence, q: GuideApproximation) -> tuple[int, int]:
        """Draws of one estimate, and the number of estimates."""
        draws = self.draws_of_data if q.target.subsampled else self._fixed(q)
        if divergence.draws is not None:
            draws = self.fixed_draws
        each = max(divergence.num_particles, self.particles)
        return each, max(self.estimates, draws // each)

    def _fixed(self, q: GuideApproximation) -> int:
        """Draws of each component, as many as can be had."""
        each = self.passes * q.family.num_components * q.target.operations
        return afforded(self.operations, each, self.fewest, self.draws)

    def for_fisher(self, parameters: int) -> int:
        each, least, most = self.fisher_draws
        return min(most, max(least, each * parameters))


class Left(NamedTuple):
    """What is left to gain, in nats, or why that is not known; and what asking took."""

    left: Estimate
    cost: Cost


def left_to_gain(
    divergence: Divergence,
    q: GuideApproximation,
    key: Array,
    held_out: Draws | None = None,
    effort: LeftEffort = LeftEffort(),
) -> Left:
    """Ask what the fit q has left to gain.

    Args:
        held_out: draws of the target that judge, for a divergence that was fitted to others.
    """
    gap_key, search_key = split(key, 2)
    known = divergence.optimality_gap(gap_key, q)
    if known is not None:
        return Left(known, Cost(0.0, known.n or 0, known.n or 0))
    search = _Question(divergence, q, held_out, effort)
    with np.errstate(all="ignore"):  # a trial that overflows is a step too long
        left = search.run(search_key)
    return Left(left, search.cost)


class _Question:
    """One search from the end of a fit."""

    def __init__(
        self, divergence: Divergence, q: GuideApproximation, held_out: Draws | None, effort
    ):
        particles, self.estimates = effort.dealt(divergence, q)
        self.divergence = _as_asked(divergence, particles)
        self.q, self.effort = q, effort
        self.seen, self.unseen = _of_one_length(divergence.draws, held_out)
        self.start = _flat(q)
        self.asked = self.looked = 0
        began = time.perf_counter()
        keys = jax.random.split(jax.random.key(0), self.estimates)
        values, _ = self._ask(self.start, keys, self.seen)
        self.compile_seconds = time.perf_counter() - began
        # What counts as small in a search is in nats, or in shares of a divergence without them.
        self.unit = 1.0 if divergence.in_nats else abs(float(values.mean())) or 1.0

    @property
    def cost(self) -> Cost:
        each = self.divergence.evaluations(self.q.family.num_components)
        estimates = self.asked * self.estimates
        densities, gradients = (n * estimates + self.looked for n in each)
        return Cost(self.compile_seconds, densities, gradients)

    def run(self, key: Array) -> Estimate:
        """The gain in nats."""
        fixed_key, fisher_key, choose_key, measure_key, apart_key, pair_key = split(key, 6)
        if not np.isfinite(self.start).all():
            return Estimate.missing("a parameter is at the edge of what it can be", "nats")
        chosen = self._search(fisher_key, fixed_key, choose_key, pair_key)
        if chosen is None:
            return Estimate.missing("no step of a search from its end can be judged", "nats")
        gain = self._measured(chosen, measure_key, self.effort.measuring)
        if gain.value is not None and abs(gain.value - ENOUGH) < 2 * (gain.standard_error or 0.0):
            gain = self._measured(chosen, measure_key, self.effort.deciding)
        if gain.value is None:
            return gain
        return gain if self.divergence.in_nats else self._apart(gain, chosen, apart_key)

    def _measured(self, end: np.ndarray, key: Array, batches: int) -> Estimate:
        """The gain at the end of a search, on fresh draws."""
        gains = self._gains(end, key, batches)
        if len(gains) < (1 - LOST) * batches * self.estimates:
            return Estimate.missing("too many estimates of the divergence are not finite", "nats")
        return Estimate.mean(gains, "nats")

    def _search(
        self, fisher_key: Array, fixed_key: Array, choose_key: Array, pair_key: Array
    ) -> np.ndarray | None:
        """The end of the stage that gained most on fresh draws; each begins where those before
        it have gained. None where the first cannot begin, or none ended at a density."""
        fisher = self._fisher(self.start, fisher_key)
        keys = jax.random.split(fixed_key, self.estimates)
        here, gained = np.asarray(self.start, float), 0.0
        chosen, most = None, -np.inf
        for damping in self.effort.damping:
            end = self._stage(here, _whitening(fisher, damping), keys)
            if end is None:
                break
            gain = self._gain(end, choose_key, fisher_key)
            if gain > most:
                chosen, most = end, gain
            if gain > gained:
                here, gained = end, gain
        end = self._with_a_pair_elsewhere(keys, fisher_key, pair_key)
        if end is not None and self._gain(end, choose_key, fisher_key) > max(most, gained):
            return end
        return chosen

    def _with_a_pair_elsewhere(
        self, keys: Array, fisher_key: Array, pair_key: Array
    ) -> np.ndarray | None:
        """The end of a stage from where the two nearest components of a mixture are apart; None
        where q has no two that could be, or log p is not finite there."""
        mixture = self.q.mixture()
        if mixture is None or len(mixture.weights) < 2 or not self.q.family.has_projection:
            return None
        try:
            pair = nearest_pair(mixture)
        except np.linalg.LinAlgError:  # a component that has lost its width
            return None
        rng = generator(pair_key)
        ways = rng.normal(size=(self.effort.directions, self.q.target.dim))
        others = [pair.apart(way) for way in ways]
        others += [pair.one_at(self._highest(pair, rng, far)) for far in self.effort.distances]
        begins = [_projected(self.q, other) for other in others]
        values = np.array([self._ask(begin, keys, self.seen)[0].mean() for begin in begins])
        begin = begins[int(np.argmin(np.where(np.isfinite(values), values, np.inf)))]
        way = _whitening(self._fisher(begin, fisher_key), self.effort.damping[-1])
        return self._stage(begin, way, keys)

    def _highest(self, pair: Pair, rng: np.random.Generator, far: float) -> np.ndarray:
        """Where log p is highest of some points so far from a pair."""
        u = pair.around(rng, self.effort.around, far)
        log_p, _ = values_and_slopes(self.q.target, u)
        self.looked += len(u)
        return u[int(np.argmax(np.where(np.isfinite(log_p), log_p, -np.inf)))]

    def _gain(self, end: np.ndarray, choose_key: Array, draw_key: Array) -> float:
        """What an end gained on fresh draws; none where it is no density."""
        gain = _mean(self._gains(end, choose_key, self.effort.choosing))
        return gain if self._is_a_density(end, draw_key) else -np.inf

    def _fisher(self, flat: np.ndarray, key: Array) -> np.ndarray:
        """The Fisher information (P, P), or its diagonal (P,), at draws of every component alike:
        one of little weight would else be free to go anywhere in a single step."""
        here = jnp.asarray(flat, self.start.dtype)
        q = _there(self.q, here)
        draws = self.effort.for_fisher(self.start.size)
        try:
            u = _of_strata(-(-draws // q.family.num_components), q, key)
        except InputError:  # what is not reparameterised has none
            u = q.points(key, draws)
        dense = self.start.size <= self.effort.parameters
        return np.asarray(_fisher(dense, q, here, u), float)

    def _stage(
        self, begin: np.ndarray, way: np.ndarray | sparse.csr_array, keys: Array
    ) -> np.ndarray | None:
        """The end of a search on fixed draws, in the directions `way` (P, r); None where the
        objective is not finite at its beginning."""
        values: list[float] = []

        def evaluate(points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            # What is far, and what is asked for after the last evaluation, is a step too long.
            if self._is_over(values) or np.linalg.norm(points[0]) > self.effort.farthest:
                return np.full(len(points), np.inf), np.zeros_like(points)
            each, slope = self._ask(begin + way @ points[0], keys, self.seen)
            slope = way.T @ slope / self.unit
            value = each.mean() / self.unit if np.isfinite(slope).all() else np.inf
            values.append(float(value) if np.isfinite(value) else np.inf)
            return np.array(values[-1:]), slope[None]

        hessian = partial(Limited, self.effort.memory)
        zero = np.zeros(way.shape[1])
        search = descend(zero, hessian, self.effort.steps, self.effort.tolerance)
        (path,) = together([search], evaluate)
        return begin + way @ path[-1].x if np.isfinite(path[0].value) else None

    def _is_over(self, values: list[float]) -> bool:
        """Whether a stage with these values so far has used its evaluations, or tried in vain for
        too long: its noisy gradient and its values part near the optimum, and halving goes on."""
        since = len(values) - 1 - int(np.argmin(values)) if values else 0
        return len(values) >= self.effort.evaluations or since >= self.effort.in_vain

    def _gains(self, end: np.ndarray, key: Array, batches: int) -> np.ndarray:
        """Gains (n,) over the start, estimate by estimate, of those that are finite; one far above
        the others is cut, as what gains at a few draws only is a hole in a density."""
        keys = jax.random.split(key, (batches, self.estimates))
        each = [self._ask(x, some, self.unseen)[0] for some in keys for x in (self.start, end)]
        gains = np.concatenate(each[::2]) - np.concatenate(each[1::2])
        gains = gains[np.isfinite(gains)]
        if not len(gains):
            return gains
        middle = np.median(gains)
        # Ten standard deviations, as the median of the distances from the middle has them.
        return np.minimum(gains, middle + 15 * np.median(abs(gains - middle)))

    def _ask(self, flat, keys: Array, draws: Draws | None) -> tuple[np.ndarray, np.ndarray]:
        self.asked += 1
        flat = jnp.asarray(flat, self.start.dtype)
        values, slope = _objective(self.divergence, self.q, flat, keys, draws)
        return np.asarray(values, float), np.asarray(slope, float)

    def _is_a_density(
        self, end: np.ndarray, key: Array, draws: int = 2000, most: float = 10
    ) -> bool:
        """Whether E_r[q/r] is no more than 1, with r the end of a search: a flow whose inverse is
        lost to rounding has a log density far too low at its own draws, and seems to gain."""
        found = _there(self.q, jnp.asarray(end, self.start.dtype))
        there = found.at(Draws(found.points(key, draws), {}))
        log_ratio = np.asarray(self.q.at(there).log_q) - np.asarray(there.log_q)
        return bool(np.exp(log_ratio).mean() < most)

    def _apart(self, gain: Estimate, end: np.ndarray, key: Array) -> Estimate:
        """Half the symmetrised KL to where a divergence in other units is surely less."""
        if (gain.value or 0.0) <= 2 * (gain.standard_error or 0.0):
            return Estimate(0.0, 0.0, "nats", gain.n)
        both = jnp.stack([self.start, jnp.asarray(end, self.start.dtype)])
        stacked = jax.jit(jax.vmap(partial(_at, self.q)))(both)
        return Estimate(float(jeffreys(stacked, key)[0, 1]) / 2, 0.0, "nats", gain.n)


@lru_cache(maxsize=8)
def _as_asked(divergence: Divergence, particles: int) -> Divergence:
    """The same object for every fit by one divergence, so that what is compiled serves them."""
    return divergence.with_particles(particles).quiet()


@jax.jit
def _projected(q: GuideApproximation, mixture: GaussianMixture) -> Array:
    """The guide's parameters (P,) for a mixture, in their unconstrained space."""
    params = q.params | q.family.from_mixture(mixture, q.target)
    return ravel_pytree(families.unconstrained(q.guide, q.target, params))[0]


@jax.jit
def _flat(q: GuideApproximation) -> Array:
    """The parameters as one vector (P,), in their unconstrained space."""
    return ravel_pytree(families.unconstrained(q.guide, q.target, q.params))[0]


def _at(q: GuideApproximation, flat: Array) -> GuideApproximation:
    """The same guide at the parameters `flat` (P,)."""
    _, unravel = ravel_pytree(families.unconstrained(q.guide, q.target, q.params))
    params = families.constrained(q.guide, q.target, unravel(flat))
    return GuideApproximation(q.guide, params, q.target)


_there = jax.jit(_at)


@partial(jax.jit, static_argnums=0)
def _objective(
    divergence: Divergence, q: GuideApproximation, flat: Array, keys: Array, draws: Draws | None
) -> tuple[Array, Array]:
    """Estimates (M,) at the keys (M,), and the mean of their gradients (P,)."""
    divergence = divergence if draws is None else divergence.with_draws(draws)
    estimate = lambda flat, key: divergence.estimate(key, _at(q, flat), q.target)
    one = lambda key: jax.value_and_grad(estimate)(flat, key)
    values, slopes = jax.lax.map(one, keys)
    return values, slopes.mean(axis=0)


@partial(jax.jit, static_argnums=0)
def _of_strata(n: int, q: GuideApproximation, key: Array) -> Array:
    """n draws (K n, d) of each component of q."""
    u = q.strata(key, n)[1]
    return u.reshape(-1, u.shape[-1])


@partial(jax.jit, static_argnums=0)
def _fisher(dense: bool, q: GuideApproximation, flat: Array, u: Array) -> Array:
    """Mean of s ⊗ s (P, P) over the draws u (n, d) of q, or of s² (P,); s is the score."""
    log_q = lambda flat, one: _at(q, flat).log_prob(one)

    def add(total: Array, rows: Array) -> tuple[Array, None]:
        scores = jax.vmap(jax.grad(log_q), (None, 0))(flat, rows)
        scores = jnp.where(jnp.isfinite(scores), scores, 0.0)
        return total + (scores.T @ scores if dense else (scores**2).sum(axis=0)), None

    blocks = u[: len(u) // 256 * 256].reshape(-1, 256, u.shape[1])
    zero = jnp.zeros((flat.size,) * (2 if dense else 1), flat.dtype)
    return jax.lax.scan(add, zero, blocks)[0] / (256 * len(blocks))


def _whitening(fisher: np.ndarray, damping: float) -> np.ndarray | sparse.csr_array:
    """T (P, r) with Tᵀ(F + damping diag F)T = I, for F (P, P) or its diagonal (P,), without
    the parameters that change nothing in q."""
    scale = np.sqrt(fisher if fisher.ndim == 1 else np.diag(fisher))
    some = np.flatnonzero(scale > 0)
    if fisher.ndim == 1:  # one number a row: a network has hundreds of thousands
        places = some, np.arange(len(some))
        return sparse.csr_array((1 / scale[some], places), (len(scale), len(some)))
    units = np.eye(len(scale))[:, some] / scale[some]
    values, turn = np.linalg.eigh(units.T @ fisher @ units)
    return units @ (turn / np.sqrt(np.maximum(values, 0) + damping))


def _mean(gains: np.ndarray) -> float:
    return float(gains.mean()) if len(gains) else -np.inf


def _of_one_length(seen: Draws | None, unseen: Draws | None) -> tuple[Draws | None, Draws | None]:
    """The draws that the search sees and those that judge it, as many of each and nothing but
    what a divergence looks at, so that one program serves both."""
    if seen is None:
        return None, None
    judging = unseen or seen
    n = min(len(seen), len(judging))
    known = seen.log_p is not None and judging.log_p is not None
    bare = lambda draws: Draws(draws.u[:n], {}, draws.log_p[:n] if known else None)
    return bare(seen), bare(judging)
