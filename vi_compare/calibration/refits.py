"""Refits: the optimum for other data, from the fit to the observed ones.

The data are traced arguments, so that one compiled program serves all data sets. Each is fitted by
itself, until it has arrived by its own measure: what comes of it does not depend on how many there
are, nor on where an interrupted run went on.

- Gaussians under reverse KL are searched as the default solver ends: L-BFGS on draws held fixed,
  then natural gradients on fresh ones. On a Gaussian target a guide that holds it is exact.
- All others by Adam, in coordinates in which the fit to the observed data has Fisher information I,
  with three step sizes, each until the loss has stopped falling.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array
from jax.flatten_util import ravel_pytree

from vi_compare import families
from vi_compare.approximation import GuideApproximation
from vi_compare.batches import by_rows
from vi_compare.calibration.replicate import Data, Replicate
from vi_compare.divergences import Divergence
from vi_compare.divergences.reverse_kl import ReverseKL
from vi_compare.families import Covariances
from vi_compare.gaussian.antithetic import even_pairs
from vi_compare.gaussian.gaussians import MOST_FULL, FullRank, MeanField, enough_draws
from vi_compare.gaussian.natural_gradient import Polish, PolishTuning, polish
from vi_compare.gaussian.pathfinder import trial
from vi_compare.gaussian.quasi_newton import Limited, descend, together
from vi_compare.randomness import generator
from vi_compare.scores import Scores
from vi_compare.solvers._loop import Pace, Trajectory
from vi_compare.target import Target


class Refit(NamedTuple):
    """A fit to one data set.

    Attributes:
        params: of the guide; None where the search found no finite objective.
        converged: whether it has arrived at an optimum.
    """

    params: dict[str, Any] | None
    converged: bool


class Refitter(Protocol):
    """Fits one guide to data set after data set."""

    def refit(self, data: Data, key: Array) -> Refit: ...


def refitter(q: GuideApproximation, divergence: Divergence, beside: bool) -> Refitter:
    """Who fits the guide of `q`, a fit to the observed data, to others by `divergence`.

    Args:
        beside: whether the observed data stay beside the others.
    """
    free = q.family.covariances in (Covariances.FULL, Covariances.DIAGONAL)
    if free and isinstance(divergence, ReverseKL):
        return GaussianRefitter(q, beside)
    return StochasticRefitter(q, divergence, beside)


# --- Gaussians -----------------------------------------------------------------------------


@dataclass(frozen=True)
class GaussianRefitTuning:
    """Tunables of a Gaussian's refit.

    Attributes:
        rounds: of L-BFGS, each on new draws in the frame that the one before ended in.
        steps: maximum of a round: data from the prior can be tens of standard deviations away.
        memory, small: pairs that L-BFGS remembers, and a gain in nats that is small to it.
        attempts: at rounds and polish together; the second begins where the first still moved.
        polish: of the natural gradients, which may go on for longer than those of a fit: in 30
            dimensions 150 steps leave 0.01 nats, about what counts as converged.
        shrunk: factors on the width at the start, of which the first is taken where log p is
            finite at all draws.
    """

    rounds: int = 2
    steps: int = 200
    memory: int = 20
    small: float = 1e-3
    attempts: int = 3
    polish: PolishTuning = field(default_factory=lambda: PolishTuning(most=600))
    shrunk: tuple[float, ...] = (1.0, 0.5, 0.2, 0.05, 0.01, 0.001)


@dataclass(eq=False)
class GaussianRefitter:
    """See the module; `q` is the fit to the observed data."""

    q: GuideApproximation
    beside: bool
    tuning: GaussianRefitTuning = field(default_factory=GaussianRefitTuning)

    def __post_init__(self):
        found = self.q.family.gaussian(self.q.params, self.q.target)
        assert found is not None
        self.start, target = found, self.q.target
        density = lambda data: Replicate.of(target, data, self.beside).log_density
        self.ask = jax.jit(lambda data, x: target.over_points(jax.value_and_grad(density(data)))(x))

    def refit(self, data: Data, key: Array) -> Refit:
        scores = _ReplicateScores(partial(self.ask, data), self.q.target)
        with np.errstate(all="ignore"):  # a trial that overflows is a step too long
            found = self._search(scores, generator(key))
        if found is None:
            return Refit(None, False)
        mean, root = found.gaussian.mean, found.gaussian.root
        params = self.q.family.from_gaussian(mean, root, self.q.target)
        return Refit(params, found.converged)

    def _search(self, scores: Scores, rng: np.random.Generator) -> Polish | None:
        here: FullRank | MeanField = self.start
        for _ in range(self.tuning.attempts):
            for _ in range(self.tuning.rounds):
                moved = self._round(here, scores, rng)
                if moved is None:
                    return None
                here = moved
            begin, tell = _reframed(here, scores, rng), lambda step, loss: None
            found = polish(begin, scores, rng, tell, self.tuning.polish)
            assert isinstance(found.gaussian, FullRank | MeanField)
            if found.converged:
                break
            here = found.gaussian
        return found

    def _round(
        self, q: FullRank | MeanField, scores: Scores, rng: np.random.Generator
    ) -> FullRank | MeanField | None:
        """The best near q on fixed draws; None where log p is not finite there."""
        e = even_pairs(rng, q.draws, scores.dim)
        finite = lambda one: np.isfinite(scores(one.points(e))[0]).all()
        begin = next((one for f in self.tuning.shrunk if finite(one := q.shrunk(f))), None)
        if begin is None:
            return None

        def objective(thetas: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            values, slopes = zip(*(trial(scores, begin, t, e) for t in thetas), strict=True)
            return np.array(values), np.stack(slopes)

        memory = partial(Limited, self.tuning.memory)
        search = descend(np.zeros(begin.size), memory, self.tuning.steps, self.tuning.small)
        (path,) = together([search], objective)
        return begin.moved(path[-1].x)


def _reframed(
    q: FullRank | MeanField, scores: Scores, rng: np.random.Generator
) -> FullRank | MeanField:
    """q, if mean field, in the frame of log p's average curvature, where that can be known."""
    if not isinstance(q, MeanField) or scores.dim > MOST_FULL:
        return q
    e = even_pairs(rng, enough_draws(8 * scores.dim), scores.dim)
    log_p, gradients = scores(q.points(e))
    return q.reframed(e, gradients) if np.isfinite(log_p).all() else q


class _ReplicateScores(Scores):
    """log p given one data set, by a program that all of them share."""

    def __init__(self, ask: Callable, target: Target, rows: int = 128):
        self.ask, self.dim, self.rows = ask, target.dim, rows

    def __call__(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        log_p, slopes = by_rows(self.ask, np.asarray(x, jnp.result_type(float)), self.rows)
        log_p, slopes = log_p.astype(float), slopes.astype(float)
        bad = ~(np.isfinite(log_p) & np.isfinite(slopes).all(axis=1))
        log_p[bad], slopes[bad] = -np.inf, 0.0
        return log_p, slopes


# --- all others ----------------------------------------------------------------------------


@dataclass(frozen=True)
class StochasticRefitTuning:
    """Tunables of Adam in whitened coordinates.

    Attributes:
        rates: step sizes, one after another; the parameters are the mean of the last one's.
        steps: maximum of all together.
        pace: chunks between two looks at the losses.
        draws: of the divergence, as a multiple of its own number.
        fisher: draws that the Fisher information is estimated from.
        damping: added to it, as a share of its diagonal: directions that change little in the
            fit are not to be run along.
        parameters: maximum number for a dense matrix; a diagonal beyond.
    """

    rates: tuple[float, ...] = (0.1, 0.02, 0.004)
    steps: int = 20_000
    pace: Pace = field(default_factory=Pace)
    draws: int = 2
    fisher: int = 4_096
    damping: float = 0.01
    parameters: int = 1_000


class _AdamState(NamedTuple):
    z: Array
    moments: Any


@dataclass(eq=False)
class StochasticRefitter:
    """See the module; `q` is the fit to the observed data."""

    q: GuideApproximation
    divergence: Divergence
    beside: bool
    tuning: StochasticRefitTuning = field(default_factory=StochasticRefitTuning)

    def __post_init__(self):
        q, tuning = self.q, self.tuning
        free = families.unconstrained(q.guide, q.target, q.params)
        self.origin, self.unravel = ravel_pytree(free)
        particles = tuning.draws * self.divergence.num_particles
        self.loss = self.divergence.with_particles(particles)
        self.way = self._whitening()
        self.adam = optax.inject_hyperparams(optax.adam)(learning_rate=tuning.rates[0])
        self.chunk = jax.jit(self._chunk)

    def params(self, z: Array) -> dict[str, Any]:
        """The guide's parameters at z (P,), the fit to the observed data at 0."""
        moved = self.way @ z if self.way.ndim == 2 else self.way * z
        free = self.unravel(self.origin + moved)
        return families.constrained(self.q.guide, self.q.target, free)

    def refit(self, data: Data, key: Array) -> Refit:
        z = jnp.zeros_like(self.origin)
        state, seen = _AdamState(z, self.adam.init(z)), Trajectory(self.tuning.pace)
        seen.failed = np.array([""], dtype=object)
        phase, chunk = 0, self.tuning.pace.chunk
        for number in range(self.tuning.steps // chunk):
            rate = jnp.asarray(self.tuning.rates[phase], z.dtype)
            state, losses, mean = self.chunk(state, data, jax.random.fold_in(key, number), rate)
            seen.losses.append(np.asarray(losses)[None])
            seen.means.append(np.asarray(mean)[None])
            seen.phase_chunks += 1
            if not (np.isfinite(losses).all() and np.isfinite(mean).all()):
                return Refit(None, False)
            if seen.phase_chunks < self.tuning.pace.window or not seen.still():
                continue
            phase += 1
            seen.stationary = phase == len(self.tuning.rates)
            if seen.stationary:
                break
            seen.phase_chunks = 0
        return Refit(self.params(seen.tail().mean(axis=0)[0]), seen.stationary)

    def _chunk(self, state: _AdamState, data: Data, key: Array, rate: Array):
        target = Replicate.of(self.q.target, data, self.beside)

        def loss(z: Array, key: Array) -> Array:
            q = GuideApproximation(self.q.guide, self.params(z), target)
            return self.loss.estimate(key, q, target)

        def step(carry, key):
            state, total = carry
            value, slope = jax.value_and_grad(loss)(state.z, key)
            change, moments = self.adam.update(slope, state.moments)
            z = optax.apply_updates(state.z, change)
            return (_AdamState(z, moments), total + z), value

        begun = optax.tree_utils.tree_set(state, learning_rate=rate)
        keys = jax.random.split(key, self.tuning.pace.chunk)
        (state, total), losses = jax.lax.scan(step, (begun, jnp.zeros_like(state.z)), keys)
        return state, losses, total / len(keys)

    def _whitening(self) -> Array:
        """T (P, P) with Tᵀ F T = I for the Fisher information F of the fit, or a diagonal (P,)."""
        q, tuning = self.q, self.tuning

        def log_q(flat: Array, u: Array) -> Array:
            params = families.constrained(q.guide, q.target, self.unravel(flat))
            return GuideApproximation(q.guide, params, q.target).log_prob(u)

        u = q.points(jax.random.key(0), tuning.fisher)
        slopes = jax.jit(jax.vmap(jax.grad(log_q), (None, 0)))(self.origin, u)
        scores = np.nan_to_num(np.asarray(slopes, float))
        scale = np.sqrt(np.maximum((scores**2).mean(axis=0), 1e-12))
        if len(scale) > tuning.parameters:
            return jnp.asarray(1 / scale)
        unit = scores / scale
        values, turn = np.linalg.eigh(unit.T @ unit / len(unit))
        return jnp.asarray(turn / np.sqrt(np.maximum(values, 0) + tuning.damping) / scale[:, None])
