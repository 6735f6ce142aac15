"""Coordinates in which a target looks standard, for steps of one length in all directions.

Adam moves every parameter by its step size, whatever its scale. With scales of 0.001 and
1,000 side by side, one is overshot and the other never reached. In the frame of a Gaussian that
is roughly right, where u is whitened, all of them are of order one.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jax import Array
from scipy import linalg

from vi_compare.gaussian.gaussians import MOST_FULL, Gaussian, lower
from vi_compare.gaussian.pathfinder import best_on_paths, full_rank, mean_field
from vi_compare.randomness import generator, split
from vi_compare.scores import Scores
from vi_compare.starts import starting_points
from vi_compare.target import Target

# Maximum dimension for a Gaussian to be found for a target, without correlations above
# `MOST_FULL`: its curvatures and the frame are still (d, d) matrices.
MOST = 1600


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
    def of(cls, gaussian: Gaussian) -> Frame:
        """That of a Gaussian."""
        return cls(gaussian.mean, gaussian.root)

    @classmethod
    def identity(cls, dim: int) -> Frame:
        return cls(np.zeros(dim), np.eye(dim))

    @property
    def covariance(self) -> np.ndarray:
        return self.tril @ self.tril.T

    @property
    def scales(self) -> np.ndarray:
        """Standard deviations (d,) of the Gaussian N(mean, tril trilᵀ)."""
        return np.linalg.norm(self.tril, axis=1)

    @property
    def conditional_scales(self) -> np.ndarray:
        """Standard deviation (d,) of each coordinate given all others."""
        inverse = linalg.solve_triangular(self.tril, np.eye(len(self.mean)), lower=True)
        return 1 / np.linalg.norm(inverse, axis=0)

    def into(self, u: np.ndarray) -> np.ndarray:
        """Whiten: u (n, d) -> v (n, d)."""
        return linalg.solve_triangular(self.tril, (u - self.mean).T, lower=True).T

    def out_of(self, v: np.ndarray) -> np.ndarray:
        """Undo `into`: v (..., d) -> u (..., d)."""
        return self.mean + v @ self.tril.T

    def reordered(self, rows: np.ndarray) -> Frame:
        """The same Gaussian over u[rows]."""
        return Frame(self.mean[rows], lower(self.tril[rows]))


@dataclass(frozen=True)
class Survey:
    """What is known of a target before anything is fitted to it.

    Attributes:
        frames: Gaussians near the target's mass, the best first; none where none is finite.
        compile_seconds, densities, gradients: cost of finding them.
    """

    frames: tuple[Frame, ...]
    compile_seconds: float = 0.0
    densities: int = 0
    gradients: int = 0


def from_paths(target: Target, key: Array, paths: int = 10, behind: float = 10.0) -> Survey:
    """The best Gaussian on each of `paths` quasi-Newton ascents, without those whose ELBO is
    more than `behind` nats below the best: no place to start from.

    All data count, also where the model sees minibatches.
    """
    if target.dim > MOST:
        return Survey(())
    start_key, draw_key = split(key, 2)
    scores = Scores(target)
    starts = np.asarray(starting_points(target, start_key, paths, scores), float)
    make = full_rank if target.dim <= MOST_FULL else mean_field
    with np.errstate(all="ignore"):  # a trial that overflows is a step too long
        some = best_on_paths(scores, starts, make, generator(draw_key))
    found = sorted((one for one in some.found if one is not None), key=lambda one: -one.elbo)
    frames = [Frame.of(one.gaussian) for one in found if one.elbo > found[0].elbo - behind]
    cost = scores.compile_seconds, scores.densities, scores.gradients
    return Survey(tuple(frames), *cost)


def from_draws(u: Array) -> Survey:
    """The Gaussian with the moments of draws u (n, d)."""
    x = np.asarray(u, float)
    n, d = x.shape
    if d > MOST:
        return Survey(())
    covariance = np.atleast_2d(np.cov(x.T)) if n > 2 * d else np.diag(x.var(axis=0, ddof=1))
    scale = np.sqrt(np.diag(covariance))
    scale = np.where(scale > 0, scale, 1.0)
    # Collinear coordinates have a singular correlation matrix; 1e-12 is above its rounding.
    correlation = covariance / np.outer(scale, scale) + 1e-12 * np.eye(d)
    tril = scale[:, None] * linalg.cholesky(correlation, lower=True)
    return Survey((Frame(x.mean(axis=0), tril),))
