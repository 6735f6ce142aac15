"""Stochastic variational inference: Adam's steps from many starts, until they stop paying.

Search: all restarts, two step sizes, each until the loss has stopped falling.
Choose: the restart of lowest loss on draws shared by all.
Polish: that one alone, with more draws and a small step, its iterates averaged (Polyak
and Juditsky 1992); the spread of the iterates is the error of the parameters.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from vi_compare import families
from vi_compare.approximation import GuideApproximation, set_up
from vi_compare.divergences import Divergence
from vi_compare.errors import InputError
from vi_compare.estimate import Estimate
from vi_compare.formatting import plain, with_error
from vi_compare.gaussian.natural_gradient import ENOUGH
from vi_compare.randomness import split
from vi_compare.solvers import Cost, Fit, Progress
from vi_compare.solvers._loop import CHUNK, WINDOW, Loop, Trajectory
from vi_compare.solvers._restarts import choose
from vi_compare.target import Target
from vi_compare.verdict import Status

SEARCH_STEPS = (1.0, 0.2)  # step sizes, as shares of learning_rate
POLISH_STEP = 0.04
POLISH_DRAWS = 8  # times the divergence's own number of draws
# Chunks that the polish averages, and how many make one batch for its error: a batch
# must last longer than the iterates remember.
AVERAGED = 30
BATCH = 3
MOST_PARAMETERS = 2_000  # their covariance is dense


@dataclass(frozen=True)
class Begin:
    """Where the restarts begin, and in which coordinates the search goes on.

    Attributes:
        points: (key, restarts, each) -> places (restarts, each, d), in those coordinates.
        place: parameters in those coordinates -> in the target's own.
        shape: start parameters -> the same with what is known of the covariance.
    """

    points: Callable[[Array, int, int], Array | np.ndarray]
    place: Callable[[dict], dict] = lambda params: params
    shape: Callable[[dict], dict] = lambda params: params


class Ended(NamedTuple):
    """How the polish ended, in words, and what to do about it."""

    status: Status
    message: str
    remedy: str = ""


@dataclass(frozen=True)
class Stochastic:
    """NumPyro's SVI with Adam. `steps` is a limit, not a plan: it stops by itself.

    Attributes:
        name: of the solver in labels.
        steps: at most this many steps in the search, and again in the polish.
        learning_rate: Adam's first step size, in the coordinates of the search.

    Raises:
        InputError: when either is too small.
    """

    name: str
    steps: int
    learning_rate: float

    def __post_init__(self):
        if self.steps < CHUNK:
            raise InputError(f"{self.name}: steps must be at least {CHUNK}, got {self.steps}")
        if self.learning_rate <= 0:
            raise InputError(
                f"{self.name}: learning_rate must be positive, got {self.learning_rate}"
            )

    def search(
        self,
        target: Target,
        guide: Callable,
        divergence: Divergence,
        key: Array,
        restarts: int,
        progress: Progress,
        begin: Begin,
    ) -> Fit:
        """Fit `guide` by `divergence` from where `begin` says, in its coordinates; the best
        of `restarts` is chosen on 2,048 draws."""
        began = time.perf_counter()
        start_key, search_key, choose_key, polish_key, left_key = split(key, 5)
        rates = [self.learning_rate * share for share in SEARCH_STEPS]
        search = Loop(target, guide, divergence, rates, WINDOW, self.steps, begin.place)
        first = starts(target, guide, start_key, restarts, begin)
        found, own = search.run(first, search_key, progress)
        stacked = GuideApproximation(guide, own, target)
        alive = search.trajectory.failed == ""
        best, rows, judged = choose(divergence, stacked, alive, choose_key)
        rows = [
            replace(row, status=failed) if failed else row
            for row, failed in zip(rows, search.trajectory.failed, strict=True)
        ]
        if best is None:
            message = f"every restart broke down; the first at {rows[0].status}"
            spent = _cost(guide, divergence, search, restarts)
            return Fit(
                None, Status.FAILED, message, search.trajectory.loss(), tuple(rows), cost=spent
            )

        finer = divergence.with_particles(POLISH_DRAWS * divergence.num_particles)
        polish = Loop(
            target,
            guide,
            finer,
            [self.learning_rate * POLISH_STEP],
            AVERAGED,
            self.steps,
            begin.place,
        )
        start, before = jax.tree.map(lambda leaf: leaf[best : best + 1], (found, own))
        _, polished = polish.run(start, polish_key, progress)
        broke = polish.trajectory.failed[0]
        last = before if broke else polished
        params = jax.tree.map(lambda leaf: jnp.asarray(leaf[0]), last)
        q = GuideApproximation(guide, params, target)
        left = divergence.optimality_gap(left_key, q)
        asked = (left and left.n) or 0
        spent = _cost(guide, divergence, search, restarts) + _cost(guide, finer, polish, 1)
        judging = divergence.with_particles(judged).evaluations(families.num_components(guide))
        spent += Cost(0, 0, asked + judging.log_density, asked)
        seconds = time.perf_counter() - began - spent.compile_seconds
        spent = replace(spent, run_seconds=seconds)
        ended = self._ended(polish.trajectory, left)
        return Fit(
            q,
            ended.status,
            ended.message,
            _losses(search.trajectory, polish.trajectory, best),
            tuple(rows),
            best,
            spent,
            covariance=None if broke else _covariance(polish),
            doubt=divergence.why_doubtful(choose_key, q, polish.carried),
            settings={
                "search_steps": search.trajectory.steps,
                "polish_steps": polish.trajectory.steps,
                "tested_steps": CHUNK * min(WINDOW, len(polish.trajectory.losses)),
            },
            remedy=ended.remedy,
        )

    def _ended(self, polish: Trajectory, left: Estimate | None) -> Ended:
        """What is known to be left to gain decides; where it is not, whether the loss fell."""
        if broke := polish.failed[0]:
            message = f"the search ended, but polishing broke at {broke}"
            return Ended(Status.NOT_CONVERGED, message, "mend what is named, or lower the rate")
        low, high = _between(left)
        if low > ENOUGH:
            message = f"about {plain(high, 2)} nats are left to gain"
            if polish.stationary:
                message += ", though the loss has stopped falling: its steps are small"
            return Ended(Status.NOT_CONVERGED, message, self._way_on(polish))
        if len(polish.losses) < WINDOW:
            remedy = f"raise {self.name}:steps={CHUNK * AVERAGED} or more"
            return Ended(Status.NOT_CONVERGED, "too few steps to tell", remedy)
        fall, error = (float(x[0]) for x in polish.fall())
        if high < ENOUGH and fall - 2 * error < ENOUGH:
            return Ended(Status.CONVERGED, f"at most {plain(high, 2)} nats are left to gain")
        window = CHUNK * WINDOW // 2
        change = with_error(-fall, error)
        message = f"the mean loss moved by {change} nats over the last {window} steps"
        if polish.stationary:
            return Ended(Status.CONVERGED, message)
        message += f", and all {self.steps} are used"
        return Ended(Status.NOT_CONVERGED, message, self._way_on(polish))

    def _way_on(self, polish: Trajectory) -> str:
        if polish.stationary:
            return (
                f"raise {self.name}:learning_rate={10 * self.learning_rate:g}, or name no solver: "
                "the default needs no step size"
            )
        return f"raise {self.name}:steps={self.steps * 4}"


def _between(left: Estimate | None) -> tuple[float, float]:
    """What is left to gain lies between, in nats; anything where it is not known."""
    if left is None or left.value is None or left.standard_error is None:
        return -np.inf, np.inf
    sure = 2 * left.standard_error
    return left.value - sure, max(0.0, left.value) + sure


def starts(
    target: Target, guide: Callable, key: Array, restarts: int, begin: Begin
) -> dict[str, Array]:
    """Start parameters of all restarts, on a leading axis, placed apart on purpose."""
    setup_key, pool_key, spread_key = split(key, 3)
    set_up(guide, target, setup_key)
    # The third key is the guide's, as in SVI.init: a network begins where SVI would begin it.
    first = lambda key: families.first_parameters(guide, target, jax.random.split(key, 3)[2])
    params = begin.shape(jax.jit(first)(setup_key))
    pool = jnp.asarray(begin.points(pool_key, restarts, 4 * families.num_components(guide)))
    place = lambda points, key: families.spread(guide, params, points, key, target)
    every = lambda pool, key: jax.vmap(place)(pool, jax.random.split(key, restarts))
    return jax.jit(every)(pool, spread_key)


def _losses(search: Trajectory, polish: Trajectory, best: int) -> np.ndarray:
    """(R, steps) of both stages; NaN where only the chosen restart went on."""
    losses = np.pad(search.loss(), ((0, 0), (0, polish.steps)), constant_values=np.nan)
    losses[best, search.steps :] = polish.loss()[0]
    return losses


def _covariance(polish: Loop) -> np.ndarray | None:
    """Of the averaged parameters (P, P), constrained and raveled, by batch means."""
    tail = polish.trajectory.tail()[:, 0]
    batches = len(tail) // BATCH
    if len(tail) < AVERAGED or tail.shape[1] > MOST_PARAMETERS:
        return None
    means = tail[-batches * BATCH :].reshape(batches, BATCH, -1).mean(axis=1)
    _, own = polish.constrain(means)
    leaves = [leaf.reshape(batches, -1) for leaf in jax.tree.leaves(own)]
    flat = np.concatenate(leaves, axis=1)
    return np.atleast_2d(np.cov(flat.T)) / batches


def _cost(guide: Callable, divergence: Divergence, loop: Loop, restarts: int) -> Cost:
    steps = loop.trajectory.steps * restarts
    each = divergence.evaluations(families.num_components(guide))
    densities, gradients = steps * each.log_density, steps * each.gradient
    return Cost(loop.compile_seconds, loop.run_seconds, densities, gradients)
