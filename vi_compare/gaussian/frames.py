"""Coordinates in which a target looks standard, for steps as long in every direction.

Adam moves every parameter by its step size, whatever the scale of what it stands for: with
scales of 0.001 and 1,000 side by side one is overshot and the other never reached. In the
frame of a Gaussian that is roughly right all of them are of order one.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np
from jax import Array
from scipy import linalg

from vi_compare.gaussian.gaussians import lower
from vi_compare.gaussian.pathfinder import best_on_paths, full_rank, mean_field
from vi_compare.randomness import generator, split
from vi_compare.scores import Scores
from vi_compare.starts import starting_points
from vi_compare.target import Target

MOST_FULL, MOST = 300, 1600  # dimensions, with all correlations and with none
# A path Gaussian so many nats behind the best is no place to start from.
BEHIND = 10.0
JITTER = 1e-12


@dataclass(frozen=True)
class Frame:
    """u = mean + tril v.

    Attributes:
        mean: (d,).
        tril: (d, d), lower triangular with a positive diagonal.
    """

    mean: np.ndarray
    tril: np.ndarray

    @classmethod
    def identity(cls, dim: int) -> Frame:
        return cls(np.zeros(dim), np.eye(dim))

    @property
    def covariance(self) -> np.ndarray:
        return self.tril @ self.tril.T

    @property
    def scales(self) -> np.ndarray:
        """Standard deviations (d,) of the Gaussian that the frame is."""
        return np.linalg.norm(self.tril, axis=1)

    @property
    def conditional_scales(self) -> np.ndarray:
        """Those (d,) of each coordinate given all others."""
        inverse = linalg.solve_triangular(self.tril, np.eye(len(self.mean)), lower=True)
        return 1 / np.linalg.norm(inverse, axis=0)

    def into(self, u: np.ndarray) -> np.ndarray:
        """u (n, d) -> v (n, d)."""
        return linalg.solve_triangular(self.tril, (u - self.mean).T, lower=True).T

    def reordered(self, rows: np.ndarray) -> Frame:
        """The same Gaussian over u[rows]."""
        return Frame(self.mean[rows], lower(self.tril[rows]))


@dataclass(frozen=True)
class Survey:
    """What is known of a target before anything is fitted to it.

    Attributes:
        frames: Gaussians where the target is, the best first; none where none is finite.
        compile_seconds, seconds, densities, gradients: what finding them took.
    """

    frames: tuple[Frame, ...]
    compile_seconds: float = 0.0
    seconds: float = 0.0
    densities: int = 0
    gradients: int = 0


def from_paths(target: Target, key: Array, paths: int) -> Survey:
    """The best Gaussian on each of so many climbs; all data count, also for minibatches."""
    if target.dim > MOST:
        return Survey(())
    began = time.perf_counter()
    start_key, draw_key = split(key, 2)
    scores = Scores(target)
    starts = np.asarray(starting_points(target, start_key, paths, scores), float)
    make = full_rank if target.dim <= MOST_FULL else mean_field
    with np.errstate(all="ignore"):  # a trial that overflows is a step too long
        some = best_on_paths(scores, starts, make, generator(draw_key))
    found = sorted((one for one in some if one is not None), key=lambda one: -one.elbo)
    frames = [
        Frame(one.gaussian.mean, one.gaussian.root)
        for one in found
        if one.elbo > found[0].elbo - BEHIND
    ]
    compiling = scores.compile_seconds
    seconds = time.perf_counter() - began - compiling
    return Survey(tuple(frames), compiling, seconds, scores.densities, scores.gradients)


def from_draws(u: Array) -> Survey:
    """The Gaussian with the moments of draws u (n, d)."""
    x = np.asarray(u, float)
    n, d = x.shape
    if d > MOST:
        return Survey(())
    covariance = np.atleast_2d(np.cov(x.T)) if n > 2 * d else np.diag(x.var(axis=0, ddof=1))
    scale = np.sqrt(np.diag(covariance))
    scale = np.where(scale > 0, scale, 1.0)
    correlation = covariance / np.outer(scale, scale) + JITTER * np.eye(d)
    tril = scale[:, None] * linalg.cholesky(correlation, lower=True)
    return Survey((Frame(x.mean(axis=0), tril),))
