"""Stochastic variational inference in the frame of a Gaussian found beforehand.

1. Survey: Gaussians on quasi-Newton ascents (gaussian/pathfinder.py), or the moments of the
   divergence's draws.
2. Starts: around those Gaussians, along their principal axes, several of them in one
   mixture; one restart in four begins at random places, as plain SVI does.
3. SVI in the frame of the best one (_stochastic.py): what it needs of scales and
   correlations is there from the first step.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from jax import Array

from vi_compare import families
from vi_compare.divergences import Divergence
from vi_compare.gaussian.frames import Frame, Survey, from_draws, from_paths
from vi_compare.randomness import generator, split
from vi_compare.solvers import Cost, Expected, Fit, Problem
from vi_compare.solvers._stochastic import Begin, Stochastic
from vi_compare.starts import starting_points
from vi_compare.target import Target


def suits(guide: Callable, divergence: Divergence | None) -> int | None:
    """Guides whose parameters can be carried from one frame to another."""
    family = families.family(guide)
    return 2 if divergence is not None and family.can_be_framed and not family.grows else None


def build(steps: int = 20_000, learning_rate: float = 0.05) -> FramedVI:
    """SVI with Adam in the frame of a Gaussian found on the way to the mode: no scales to set."""
    return FramedVI(Stochastic("framed", steps, learning_rate))


@dataclass(frozen=True)
class FramedVI:
    """See the module."""

    stochastic: Stochastic

    def expected(self, problem: Problem) -> Expected:
        return self.stochastic.expected(problem)

    def solve(self, problem: Problem) -> Fit:
        """Fit the guide; in the target's own coordinates where no Gaussian on
        the way is finite, or the target has too many dimensions for a frame."""
        target, family = problem.target, families.family(problem.guide)
        survey_key, key = split(problem.key, 2)
        survey = _survey(target, problem.divergence, survey_key)
        frames = survey.frames or (Frame.identity(target.dim),)
        begin = Begin(
            partial(_points, target, frames),
            lambda params: family.in_frame(params, target, frames[0]),
            lambda params: family.shaped(params, target, frames[0]),
        )
        fit = self.stochastic.search(replace(problem, key=key), begin)
        spent = Cost(survey.compile_seconds, survey.densities, survey.gradients)
        return replace(fit, cost=fit.cost + spent)


def _survey(target: Target, divergence: Divergence, key: Array) -> Survey:
    draws = divergence.draws
    return from_paths(target, key) if draws is None else from_draws(draws.u)


def _points(
    target: Target,
    frames: tuple[Frame, ...],
    key: Array,
    restarts: int,
    each: int,
    at_random: int = 4,
) -> np.ndarray:
    """Places (restarts, each, d) for the restarts, in the first frame's coordinates.

    One restart in `at_random` begins anywhere, for what no Gaussian has found.
    """
    pool_key, key = split(key, 2)
    places = _around(frames, generator(key), restarts * each).reshape(restarts, each, -1)
    anywhere = slice(at_random - 1, None, at_random)
    if count := len(places[anywhere]):
        pool = np.asarray(starting_points(target, pool_key, each * count))
        places[anywhere] = pool.reshape(count, each, -1)
    return frames[0].into(places.reshape(restarts * each, -1)).reshape(places.shape)


def _around(
    frames: tuple[Frame, ...], rng: np.random.Generator, n: int, spread: float = 1.5
) -> np.ndarray:
    """n places (n, d), each on a principal axis of one of the Gaussians, at distances that are
    normal with `spread` of its standard deviations: a mixture begins wider than one Gaussian."""
    d = len(frames[0].mean)
    # tril = U S Vᵀ: the columns of U S are the axes, each as long as its standard deviation.
    turned = [np.linalg.svd(frame.tril)[:2] for frame in frames]
    which, axis = rng.integers(len(frames), size=n), rng.integers(d, size=n)
    length = spread * rng.standard_normal(n)
    step = lambda j, a: turned[j][0][:, a] * turned[j][1][a]
    return np.stack(
        [frames[j].mean + z * step(j, a) for j, a, z in zip(which, axis, length, strict=True)]
    )
