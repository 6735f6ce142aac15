"""Stochastic variational inference: NumPyro's SVI with Adam, restarts under one vmap.

Search: all restarts, two step sizes, each until the loss has stopped falling.
Choose: the restart of lowest loss on draws shared by all.
Polish: that one alone, with more draws and a small step, its iterates averaged (Polyak
and Juditsky 1992); the spread of the iterates is the error of the parameters.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import jax
import numpy as np
import optax
from jax import Array
from jax.flatten_util import ravel_pytree
from numpyro.infer import SVI, Trace_ELBO

from vi_compare import families
from vi_compare.approximation import GuideApproximation, set_up
from vi_compare.divergences import Divergence
from vi_compare.errors import InputError
from vi_compare.numbers import with_error
from vi_compare.optimisation import CHUNK, WINDOW, Loop, Trajectory
from vi_compare.solvers import Cost, Fit, Progress, choose, quiet
from vi_compare.starts import starting_points
from vi_compare.target import Target

SEARCH_STEPS = (1.0, 0.2)  # step sizes, as shares of learning_rate
POLISH_STEP = 0.04
POLISH_DRAWS = 8  # times the divergence's own number of draws
# Chunks that the polish averages, and how many make one batch for its error: a batch
# must last longer than the iterates remember.
AVERAGED = 30
BATCH = 3
MOST_PARAMETERS = 2_000  # their covariance is dense


def suits(guide: Callable, divergence: Divergence | None) -> int | None:
    """Any guide under any divergence."""
    return None if divergence is None else 1


def build(steps: int = 20_000, learning_rate: float = 0.05) -> StochasticVI:
    """Stochastic gradients: NumPyro's SVI with Adam, falling steps, averaged iterates."""
    if steps < CHUNK:
        raise InputError(f"svi: steps must be at least {CHUNK}, got {steps}")
    if learning_rate <= 0:
        raise InputError(f"svi: learning_rate must be positive, got {learning_rate}")
    return StochasticVI(steps, learning_rate)


@dataclass(frozen=True)
class StochasticVI:
    """See the module. `steps` is a limit, not a plan: it stops by itself.

    Attributes:
        steps: at most this many steps in the search, and again in the polish.
        learning_rate: Adam's first step size, in units of the unconstrained parameters.
    """

    steps: int
    learning_rate: float

    def solve(
        self,
        target: Target,
        guide: Callable,
        divergence: Divergence,
        key: Array,
        restarts: int,
        progress: Progress = quiet,
    ) -> Fit:
        """Fit `guide` by `divergence`; the best of `restarts` is chosen on 2,048 draws."""
        began = time.perf_counter()
        start_key, search_key, choose_key, polish_key = jax.random.split(key, 4)
        rates = [self.learning_rate * share for share in SEARCH_STEPS]
        search = Loop(target, guide, divergence, rates, WINDOW, self.steps)
        found = search.run(_starts(target, guide, start_key, restarts), search_key, progress)
        stacked = GuideApproximation(guide, found, target)
        alive = search.trajectory.failed == ""
        best, rows, judged = choose(divergence, stacked, alive, choose_key)
        rows = [
            replace(row, status=failed) if failed else row
            for row, failed in zip(rows, search.trajectory.failed, strict=True)
        ]
        if best is None:
            message = f"every restart broke down; the first at {rows[0].status}"
            spent = _cost(guide, divergence, search, restarts)
            return Fit(None, "failed", message, search.trajectory.loss(), tuple(rows), cost=spent)

        finer = copy.copy(divergence)
        finer.num_particles = POLISH_DRAWS * divergence.num_particles
        polish = Loop(
            target, guide, finer, [self.learning_rate * POLISH_STEP], AVERAGED, self.steps
        )
        start = jax.tree.map(lambda leaf: leaf[best : best + 1], found)
        polished = polish.run(start, polish_key, progress)
        broke = polish.trajectory.failed[0]
        params = jax.tree.map(lambda leaf: leaf[0], start if broke else polished)
        spent = _cost(guide, divergence, search, restarts) + _cost(guide, finer, polish, 1)
        spent = replace(
            spent,
            run_seconds=time.perf_counter() - began - spent.compile_seconds,
            log_density_evaluations=spent.log_density_evaluations
            + judged * families.num_components(guide) * divergence.evaluates_target,
        )
        return Fit(
            GuideApproximation(guide, params, target),
            *self._status(polish.trajectory),
            _losses(search.trajectory, polish.trajectory, best),
            tuple(rows),
            best,
            spent,
            covariance=None if broke else _covariance(polish),
            settings={
                "search_steps": search.trajectory.steps,
                "polish_steps": polish.trajectory.steps,
                "tested_steps": CHUNK * min(WINDOW, len(polish.trajectory.losses)),
            },
        )

    def _status(self, polish: Trajectory) -> tuple[str, str]:
        if broke := polish.failed[0]:
            return "not converged", f"the search ended, but polishing broke at {broke}"
        if len(polish.losses) < WINDOW:
            needed = CHUNK * AVERAGED
            return "not converged", f"too few steps to tell; raise svi:steps={needed} or more"
        fall, error = (float(x[0]) for x in polish.fall())
        window = CHUNK * WINDOW // 2
        change = with_error(-fall, error)
        moved = f"the mean loss moved by {change} nats over the last {window} steps"
        if polish.stationary:
            return "converged", moved
        return "not converged", f"{moved} and all are used; raise svi:steps={self.steps * 4}"


def _starts(target: Target, guide: Callable, key: Array, restarts: int) -> dict[str, Array]:
    """Start parameters of all restarts, on a leading axis, placed apart on purpose."""
    setup_key, pool_key, spread_key = jax.random.split(key, 3)
    set_up(guide, target, setup_key)
    # Any loss will do here: init only traces the model and the guide.
    svi = SVI(target.model, guide, optax.identity(), Trace_ELBO())
    begin = lambda key: svi.get_params(svi.init(key, *target.args, **target.kwargs))
    params = jax.jit(begin)(setup_key)
    each = 4 * families.num_components(guide)
    pool = starting_points(target, pool_key, each * restarts)
    pool = pool.reshape(restarts, each, target.dim)
    keys = jax.random.split(spread_key, restarts)
    place = lambda points, key: families.spread(guide, params, points, key, target)
    return jax.jit(jax.vmap(place))(pool, keys)


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
    flat = jax.vmap(lambda params: ravel_pytree(params)[0])(polish.constrain(means))
    return np.atleast_2d(np.cov(np.asarray(flat).T)) / batches


def _cost(guide: Callable, divergence: Divergence, loop: Loop, restarts: int) -> Cost:
    draws = divergence.num_particles * families.num_components(guide)
    evaluations = loop.trajectory.steps * restarts * draws * divergence.evaluates_target
    return Cost(loop.compile_seconds, loop.run_seconds, evaluations, evaluations)
