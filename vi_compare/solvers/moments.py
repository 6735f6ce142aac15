"""Moment fitting for forward KL: EM on draws of the target, each M-step a moment match."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from vi_compare import families
from vi_compare.approximation import GuideApproximation
from vi_compare.divergences._sandwich import sandwich
from vi_compare.divergences.forward_kl import ForwardKL
from vi_compare.errors import InputError
from vi_compare.estimate import Estimate
from vi_compare.evidence import Draws
from vi_compare.formatting import count, plain
from vi_compare.gaussian.mixtures import Mixtures
from vi_compare.randomness import split
from vi_compare.solvers import Cost, Expected, Fit, Problem, Restart
from vi_compare.solvers._em import EM, em, kmeans_start
from vi_compare.solvers._restarts import basins, jeffreys, log_probs
from vi_compare.verdict import Status


def suits(guide: Callable, divergence) -> int | None:
    """Guides that are Gaussian mixtures, under forward KL."""
    return (
        3 if families.family(guide).has_projection and isinstance(divergence, ForwardKL) else None
    )


def build(iterations: int = 2000, tolerance: float = 1e-8, floor: float = 1e-6) -> MomentFit:
    """EM on draws of the target: forward KL to its optimum, each M-step a moment match."""
    if iterations < 1:
        raise InputError(f"moments: iterations must be positive, got {iterations}")
    if tolerance < 0 or floor < 0:
        raise InputError("moments: tolerance and floor must not be negative")
    return MomentFit(iterations, tolerance, floor)


@dataclass(frozen=True)
class Sizing:
    """How the number of components is found.

    Attributes:
        worth: nats that a component must gain on draws that were set aside.
        unseen: every so many-th draw is.
        most: components.
        restarts: of each size.
    """

    worth: float = 0.01
    unseen: int = 5
    most: int = 64
    restarts: int = 4


@dataclass(frozen=True)
class MomentFit:
    """Maximum likelihood of the divergence's draws over Gaussian mixtures.

    Attributes:
        iterations: maximum number of EM iterations per restart.
        tolerance: stop when an iteration gains less, in nats of mean log likelihood.
        floor: added to every covariance, as a share of the draws' own.
    """

    iterations: int
    tolerance: float
    floor: float
    sizing: Sizing = Sizing()

    def expected(self, problem: Problem, draws: int = 10_000) -> Expected:
        """EM takes some forty iterations for each component, one Gaussian none; a draw in a
        component takes nanoseconds, with the square of the dimension. There are some `draws`
        where those of the divergence only stand for what is yet to come."""
        components = families.family(problem.guide).num_components
        iterations = min(self.iterations, 40 * components) if components > 1 else 1
        each = 5e-9 + 7e-11 * problem.target.dim**2
        work = (
            problem.restarts * max(draws, len(problem.divergence.draws)) * components * iterations
        )
        return Expected(programs=1, seconds=1 + each * work)

    def solve(self, problem: Problem) -> Fit:
        """Fit the guide; the best of `restarts` has the highest likelihood of all draws.

        No fresh draws are needed to choose: all restarts have the same number of
        parameters and the same draws.
        """
        target, draws = problem.target, problem.divergence.draws
        start_key, size_key, basin_key = split(problem.key, 3)
        u, restarts = draws.u, problem.restarts
        guide = self._of_a_size(problem, u, size_key)
        family = families.family(guide)
        if guide is not problem.guide:
            restarts = min(restarts, self.sizing.restarts)
        kind = (family.num_components, family.diagonal_components)
        every = jax.vmap(partial(self._run, *kind), (None, 0))
        run = jax.jit(lambda u, key: every(u, jax.random.split(key, restarts)))
        problem.progress(0, None, "compiling EM")
        lowered = run.lower(u, start_key)
        compiling = time.perf_counter()
        compiled = lowered.compile()
        compile_seconds = time.perf_counter() - compiling
        starts = f"{restarts} starts at once" if restarts > 1 else "1 start"
        problem.progress(0, None, f"EM from {starts}, at most {self.iterations} iterations")
        result = compiled(u, start_key)
        pack = lambda mixture: family.from_mixture(mixture, target)
        stacked = GuideApproximation(guide, jax.jit(jax.vmap(pack))(result.mixture), target)
        result = jax.tree.map(np.asarray, result)
        problem.progress(0, None, f"{int(np.max(result.iterations))} iterations; standard errors")

        losses = _losses(result, draws)
        errors = _errors(stacked, draws)
        rows = _rows(losses[:, -1], errors, jeffreys(stacked, basin_key))
        fit = self._choose(problem.guide, stacked, result, losses, tuple(rows), u)
        # log p was evaluated for the draws, by who made them
        return replace(fit, cost=Cost(compile_seconds, 0, 0))

    def _of_a_size(self, problem: Problem, u: Array, key: Array) -> Callable:
        """The guide; where its size is to be found, with as many components as pay on draws that
        EM has not seen: twice as many as long as each gains `worth` nats there."""
        family = families.family(problem.guide)
        if not family.grows:
            return problem.guide
        unseen = np.arange(len(u)) % self.sizing.unseen == 0
        seen, judging, size, before = u[~unseen], u[unseen], 1, -np.inf
        while size <= self.sizing.most:
            problem.progress(0, None, f"EM with {size} components")
            here = self._held_out(seen, judging, key, size, family.diagonal_components)
            if not here > before + self.sizing.worth * (size - size // 2):
                break
            size, before = 2 * size, here
        return family.with_components(max(1, size // 2))

    def _held_out(
        self, seen: Array, judging: Array, key: Array, components: int, diagonal: bool
    ) -> float:
        """Mean log likelihood in nats of draws `judging` by the best of a few fits to `seen`."""
        keys = jax.random.split(key, self.sizing.restarts if components > 1 else 1)
        quick = replace(self, iterations=200, tolerance=1e-5)
        every = jax.vmap(partial(quick._run, components, diagonal), (None, 0))
        found = jax.jit(every)(seen, keys)
        ends = np.take_along_axis(
            np.asarray(found.log_likelihood), np.asarray(found.iterations)[:, None] - 1, axis=1
        )
        best = int(np.nanargmax(np.where(np.isfinite(ends), ends, -np.inf)))
        weights, means, covariances = (np.asarray(a)[best] for a in found.mixture)
        roots = np.linalg.cholesky(covariances)
        one = Mixtures.of(np.log(weights)[None], means[None], roots[None])
        return float(one.log_prob(np.asarray(judging)[None]).mean())

    def _choose(
        self, given: Callable, stacked, result: EM, losses: np.ndarray, rows, u: Array
    ) -> Fit:
        settings = {
            "components": stacked.family.num_components,
            "iterations": losses.shape[1],
            "revived": int(np.sum(result.revived)),
        }
        last = losses[:, -1]
        if not np.isfinite(last).any():
            message = "no restart has a finite likelihood; are the draws finite?"
            return Fit(None, Status.FAILED, message, losses, rows, settings=settings)
        best = int(np.nanargmin(last))
        q = jax.tree.map(lambda leaf: jnp.asarray(np.asarray(leaf)[best]), stacked)
        covariance, floor = sandwich(q, u) or (None, None)
        converged, message = self._ended(result, best)
        if stacked.guide is not given:
            message = f"{count(stacked.family.num_components)} components; {message}"
        return Fit(
            q,
            Status.CONVERGED if converged else Status.NOT_CONVERGED,
            message,
            losses,
            rows,
            best,
            covariance=covariance,
            training_floor=floor,
            settings=settings,
            remedy=f"raise moments:iterations={self.iterations * 5}",
            left=_left(result, best),
        )

    def _run(self, components: int, diagonal: bool, u: Array, key: Array):
        return em(
            u,
            kmeans_start(u, key, components, diagonal),
            iterations=self.iterations,
            tolerance=self.tolerance,
            floor=self.floor,
            diagonal=diagonal,
        )

    def _ended(self, result, best: int) -> tuple[bool, str]:
        used, gain = int(result.iterations[best]), float(result.gain[best])
        words = f"the last of {used} EM iterations gained {plain(gain, 1)} nats"
        return gain <= self.tolerance, words


def _left(result, best: int, slowest: float = 0.9999) -> Estimate | None:
    """Nats that all further iterations would gain if their gains went on falling at the rate of
    the last two, as those of EM do (Dempster, Laird and Rubin 1977, section 3); None where they
    do not fall, or at `slowest` in each.

    Below 1e-12 a gain is rounding.
    """
    used, last = int(result.iterations[best]), float(result.gain[best])
    if last < 1e-12:
        return Estimate(0.0, 0.0, "nats")
    likelihood = result.log_likelihood[best]
    before = float(likelihood[used - 2] - likelihood[used - 3]) if used > 2 else 0.0
    if last >= slowest * before:
        return None
    return Estimate(last * last / (before - last), 0.0, "nats")


def _losses(result: EM, draws: Draws) -> np.ndarray:
    """(R, iterations) forward KL on the training draws, up to E[log p] where that is not
    known; a restart that stopped early keeps its last value."""
    used = int(np.max(result.iterations))
    likelihood = np.asarray(result.log_likelihood)[:, :used]
    iterations = np.asarray(result.iterations)[:, None]
    stopped = np.arange(used) >= iterations
    last = np.take_along_axis(likelihood, iterations - 1, axis=1)
    constant = 0.0 if draws.log_p is None else float(np.mean(draws.log_p))
    return constant - np.where(stopped, last, likelihood)


def _rows(loss: np.ndarray, error: np.ndarray, distance: np.ndarray) -> list[Restart]:
    """How every restart ended; loss and error (R,), symmetrised KL (R, R)."""
    basin = basins(distance, loss)
    return [
        Restart(float(loss[r]), float(error[r]), basin[r], "finished")
        if np.isfinite(loss[r])
        else Restart(None, None, None, "its likelihood is not finite")
        for r in range(len(loss))
    ]


def _errors(stacked: GuideApproximation, draws: Draws) -> np.ndarray:
    """Standard error (R,) of each restart's mean loss."""
    log_q = log_probs(stacked, draws.u)
    log_ratios = -log_q if draws.log_p is None else np.asarray(draws.log_p) - log_q
    return log_ratios.std(axis=1, ddof=1) / np.sqrt(len(draws))
