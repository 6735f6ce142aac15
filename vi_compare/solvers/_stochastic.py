"""Stochastic variational inference: Adam's steps from many starts, until they gain no more.

Search: all restarts, two step sizes, each until the loss has stopped falling.
Choose: the restart of lowest loss on draws shared by all.
Polish: a refinement of that one alone, with more draws and a small step, its iterates averaged
(Polyak and Juditsky 1992); the spread of the iterates is the error of the parameters.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from vi_compare import families
from vi_compare.approximation import GuideApproximation
from vi_compare.divergences import Divergence
from vi_compare.errors import InputError
from vi_compare.formatting import with_error
from vi_compare.gaussian.natural_gradient import ENOUGH
from vi_compare.randomness import split
from vi_compare.solvers import Cost, Expected, Fit, Problem, Restart
from vi_compare.solvers._loop import Loop, Pace, Trajectory
from vi_compare.solvers._restarts import choose
from vi_compare.solvers._work import Budget
from vi_compare.target import Target
from vi_compare.verdict import Status


@dataclass(frozen=True)
class StochasticTuning:
    """Tunables of the search and of the polish.

    Attributes:
        pace: how often the loop looks at the losses.
        budget: what may be spent where log p takes long.
        search: Adam's step sizes in the search, as shares of the learning rate.
        polish: Adam's step size in the polish, likewise.
        draws: draws of a polish step, as a multiple of the divergence's own number.
        averaged: number of chunks that the polish averages, at least.
        batch: number of chunks of one batch mean, for the error of that average: a batch must
            last longer than the iterates remember.
        parameters: maximum number of parameters for their covariance, a dense matrix.
    """

    pace: Pace = field(default_factory=Pace)
    budget: Budget = field(default_factory=Budget)
    search: tuple[float, ...] = (1.0, 0.2)
    polish: float = 0.04
    draws: int = 8
    averaged: int = 30
    batch: int = 3
    parameters: int = 2_000


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
    """How the polish ended by its losses, and what to do should it not have converged."""

    status: Status
    message: str
    remedy: str


@dataclass(frozen=True)
class Stochastic:
    """NumPyro's SVI with Adam; it stops by itself, at `steps` at the latest.

    Attributes:
        name: of the solver in labels.
        steps: maximum number of steps in the search, and again in the polish.
        learning_rate: Adam's first step size, in the coordinates of the search.
        tuning: the rest.

    Raises:
        InputError: when either is too small.
    """

    name: str
    steps: int
    learning_rate: float
    tuning: StochasticTuning = StochasticTuning()

    def __post_init__(self):
        chunk = self.tuning.pace.chunk
        if self.steps < chunk:
            raise InputError(f"{self.name}: steps must be at least {chunk}, got {self.steps}")
        if self.learning_rate <= 0:
            raise InputError(
                f"{self.name}: learning_rate must be positive, got {self.learning_rate}"
            )

    def expected(self, problem: Problem, asked: int = 100_000) -> Expected:
        """Of the usual numbers of steps, and of asking what is left to gain, which takes some
        `asked` gradients for every component; a step that costs nothing else is a millisecond."""
        budget = self.tuning.budget
        strata = families.family(problem.guide).num_components
        each = problem.divergence.evaluations(strata).gradient
        restarts = budget.restarts(problem)
        more = budget.draws(problem, self.tuning.draws)
        steps = budget.search_steps + budget.polish_steps
        searched = restarts * budget.search_steps + more * budget.polish_steps
        gradients = each * searched + (asked * strata if each else 0)
        return Expected(gradients, programs=3, seconds=1e-3 * steps)

    def search(self, problem: Problem, begin: Begin) -> Fit:
        """Fit the guide from where `begin` says, in its coordinates; the best of the
        restarts is chosen on 2,048 draws."""
        target, guide, divergence = problem.target, problem.guide, problem.divergence
        progress, budget = problem.progress, self.tuning.budget
        restarts = budget.restarts(problem)
        start_key, search_key, choose_key, polish_key = split(problem.key, 4)
        tuning = self.tuning
        loop = partial(self._loop, target, guide, begin.place)
        search = loop(divergence, tuning.search, tuning.pace.window)
        first = starts(target, guide, start_key, restarts, begin)
        found, own = search.run(first, search_key, progress)
        best, rows, judged = _chosen(search, divergence, own, choose_key)
        spent = _cost(guide, divergence, search, restarts)
        if best is None:
            return _broke_down(search.trajectory, rows, spent)
        more = budget.draws(problem, tuning.draws)
        finer = divergence.with_particles(more * divergence.num_particles)
        polish = loop(finer, (tuning.polish,), tuning.averaged)
        start, before = jax.tree.map(lambda leaf: leaf[best : best + 1], (found, own))
        _, polished = polish.run(start, polish_key, progress)
        last = before if polish.trajectory.failed[0] else polished
        params = jax.tree.map(lambda leaf: jnp.asarray(leaf[0]), last)
        q = GuideApproximation(guide, params, target)
        spent += _cost(guide, finer, polish, 1)
        strata = families.family(guide).num_components
        judging = divergence.with_particles(judged).evaluations(strata)
        spent += Cost(0.0, judging.log_density, 0)
        fit = self._fit(q, search.trajectory, polish, rows, best)
        doubt = divergence.why_doubtful(choose_key, q, polish.carried)
        message = fit.message + _spared(restarts, problem.restarts, more, tuning.draws)
        return replace(fit, cost=spent, doubt=doubt, message=message)

    def _loop(
        self,
        target: Target,
        guide: Callable,
        place: Callable[[dict], dict],
        divergence: Divergence,
        shares: Sequence[float],
        least: int,
    ) -> Loop:
        """One stage: phases with these shares of the learning rate, of `least` chunks or more."""
        rates = [self.learning_rate * share for share in shares]
        return Loop(target, guide, divergence, rates, least, self.steps, place, self.tuning.pace)

    def _fit(
        self,
        q: GuideApproximation,
        search: Trajectory,
        polish: Loop,
        rows: tuple[Restart, ...],
        best: int,
    ) -> Fit:
        """The polished restart `best` as a fit; its cost and doubt are yet to come."""
        pace, polishing = self.tuning.pace, polish.trajectory
        ended = self._ended(polishing)
        return Fit(
            q,
            ended.status,
            ended.message,
            _losses(search, polishing, best),
            rows,
            best,
            covariance=None if polishing.failed[0] else _covariance(polish, self.tuning),
            settings={
                "search_steps": search.steps,
                "polish_steps": polishing.steps,
                "tested_steps": pace.chunk * min(pace.window, len(polishing.losses)),
            },
            remedy=ended.remedy,
        )

    def _ended(self, polish: Trajectory) -> Ended:
        """By the losses alone, which do not tell how far the optimum is."""
        pace = self.tuning.pace
        if broke := polish.failed[0]:
            message = f"the search ended, but polishing broke at {broke}"
            return Ended(Status.NOT_CONVERGED, message, "mend what is named, or lower the rate")
        if len(polish.losses) < pace.window:
            remedy = f"raise {self.name}:steps={pace.chunk * self.tuning.averaged} or more"
            return Ended(Status.NOT_CONVERGED, "too few steps to tell", remedy)
        fall, error = (float(x[0]) for x in polish.fall())
        window = pace.chunk * pace.half
        change = with_error(-fall, error)
        message = f"the mean loss moved by {change} nats over the last {window} steps"
        if polish.stationary:
            return Ended(Status.CONVERGED, message, self._way_on(polish))
        small = fall - 2 * error < ENOUGH
        message += f", and all {self.steps} are used"
        status = Status.UNKNOWN if small else Status.NOT_CONVERGED
        return Ended(status, message, self._way_on(polish))

    def _way_on(self, polish: Trajectory) -> str:
        if polish.stationary:
            return (
                f"raise {self.name}:learning_rate={10 * self.learning_rate:g}, or name no solver: "
                "the default needs no step size"
            )
        return f"raise {self.name}:steps={self.steps * 4}"


def _chosen(
    search: Loop, divergence: Divergence, own: dict, key: Array
) -> tuple[int | None, tuple[Restart, ...], int]:
    """`choose` among the restarts of a search, with parameters `own` on a leading axis; a restart
    that failed says why."""
    stacked = GuideApproximation(search.guide, own, search.target)
    failed = search.trajectory.failed
    best, rows, judged = choose(divergence, stacked, failed == "", key)
    told = (replace(row, status=why) if why else row for row, why in zip(rows, failed, strict=True))
    return best, tuple(told), judged


def _spared(restarts: int, wanted: int, draws: int, finest: int) -> str:
    """What was given up, as log p takes long; "" for nothing."""
    given_up = []
    if restarts < wanted:
        given_up.append(f"{restarts} of {wanted} starts were followed")
    if draws < finest:
        given_up.append(f"the last steps had {draws / finest:.2g} of their draws")
    words = " and ".join(given_up)
    return f"; as log p takes long, {words}; minibatches would cost less" if words else ""


def _broke_down(search: Trajectory, rows: tuple[Restart, ...], spent: Cost) -> Fit:
    message = f"every restart broke down; the first at {rows[0].status}"
    return Fit(None, Status.FAILED, message, search.loss(), rows, cost=spent)


def starts(
    target: Target, guide: Callable, key: Array, restarts: int, begin: Begin
) -> dict[str, Array]:
    """Start parameters of all restarts, on a leading axis, placed apart on purpose."""
    first_key, pool_key, spread_key = split(key, 3)
    family = families.family(guide)
    # The third key is the guide's, as in SVI.init: a network begins where SVI would begin it.
    first = lambda key: families.first_parameters(guide, target, jax.random.split(key, 3)[2])
    params = begin.shape(jax.jit(first)(first_key))
    pool = jnp.asarray(begin.points(pool_key, restarts, 4 * family.num_components))
    place = lambda points, key: family.spread(params, target, key, points)
    every = lambda pool, key: jax.vmap(place)(pool, jax.random.split(key, restarts))
    return jax.jit(every)(pool, spread_key)


def _losses(search: Trajectory, polish: Trajectory, best: int) -> np.ndarray:
    """(R, steps) of both stages; NaN where only the chosen restart went on."""
    losses = np.pad(search.loss(), ((0, 0), (0, polish.steps)), constant_values=np.nan)
    losses[best, search.steps :] = polish.loss()[0]
    return losses


def _covariance(polish: Loop, tuning: StochasticTuning) -> np.ndarray | None:
    """Covariance (P, P) of the averaged parameters, constrained and raveled, by batch means.

    None where there are too few chunks, or too many parameters for a dense matrix.
    """
    tail = polish.trajectory.tail()[:, 0]
    batches = len(tail) // tuning.batch
    if len(tail) < tuning.averaged or tail.shape[1] > tuning.parameters:
        return None
    means = tail[-batches * tuning.batch :].reshape(batches, tuning.batch, -1).mean(axis=1)
    _, own = polish.constrain(means)
    leaves = [leaf.reshape(batches, -1) for leaf in jax.tree.leaves(own)]
    flat = np.concatenate(leaves, axis=1)
    return np.atleast_2d(np.cov(flat.T)) / batches


def _cost(guide: Callable, divergence: Divergence, loop: Loop, restarts: int) -> Cost:
    steps = loop.trajectory.steps * restarts
    each = divergence.evaluations(families.family(guide).num_components)
    densities, gradients = steps * each.log_density, steps * each.gradient
    return Cost(loop.compile_seconds, densities, gradients)
