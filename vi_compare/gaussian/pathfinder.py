"""Gaussians along the ways that quasi-Newton climbs take from random starts.

As in Pathfinder (Zhang et al. 2022, "Pathfinder: parallel quasi-Newton variational
inference", JMLR 23), with the true curvature in place of the climb's own estimate. The best
Gaussian need not stand at the end of a path: where log p rises without bound as a scale
goes to 0, the end is useless and the middle is not.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np

from vi_compare.gaussian.antithetic import even_pairs
from vi_compare.gaussian.gaussians import FullRank, Gaussian, MeanField, inverse_factor, lower
from vi_compare.gaussian.quasi_newton import Dense, Limited, Metric, Point, descend, together
from vi_compare.scores import Scores

STEPS = 600
# A climb ends after three gains below this, in nats.
SMALL = 1e-6
LOOKS = 8  # iterates of a path at which the curvature is asked for
MOST_COLUMNS = 1000  # of the curvatures of one path together
DENSE, MEMORY = 300, 30  # up to so many dimensions BFGS keeps its whole matrix
# Coordinates are exchanged where they differ by so many standard deviations, for a rise of log p
# in nats, so many times.
FAR, RISE, SWEEPS = 1.0, 0.1, 5
DRAWS = 32  # that score a candidate

Make = Callable[[np.ndarray, np.ndarray, np.ndarray], list[FullRank] | list[MeanField]]


@dataclass(frozen=True)
class Found:
    """A Gaussian and its ELBO in nats, roughly."""

    gaussian: FullRank | MeanField
    elbo: float


def full_rank(x: np.ndarray, slope: np.ndarray, precision: np.ndarray) -> list[FullRank]:
    """Gaussians at x and one Newton step from it; precision is −∇² log p (d, d) there."""
    _, factor = inverse_factor(precision)
    triangle = lower(factor)
    return [FullRank(mean, triangle) for mean in (x, x + factor @ (factor.T @ slope))]


def mean_field(x: np.ndarray, slope: np.ndarray, precision: np.ndarray) -> list[MeanField]:
    """The same, each with the variances that are best where log p is quadratic."""
    diagonal, factor = inverse_factor(precision)
    scales = 1 / np.sqrt(diagonal)
    return [MeanField(mean, scales, factor) for mean in (x, x + factor @ (factor.T @ slope))]


def best_on_paths(
    scores: Scores, starts: np.ndarray, make: Make, rng: np.random.Generator
) -> list[Found | None]:
    """The best Gaussian on the path from each start (n, d); None where none is finite."""
    paths = _climbs(scores, starts)
    e = even_pairs(rng, DRAWS, scores.dim)
    return [_best(scores, path, make, e) for path in paths]


def exchanged(scores: Scores, best: Found, starts: np.ndarray) -> np.ndarray | None:
    """The best Gaussian's mean with single coordinates taken from where climbs from `starts`
    (n, d) end, as long as log p rises; None where it does not.

    Where k coordinates have two modes each, there are 2^k, and ten starts find ten of them:
    but each coordinate has been in its better one somewhere.
    """
    if scores.dim > DENSE:
        return None
    others = np.stack([path[-1].x for path in _climbs(scores, starts)])
    here, scale = best.gaussian.mean, np.linalg.norm(best.gaussian.root, axis=1)
    height = begin = scores(here[None])[0][0]
    for _ in range(SWEEPS):
        rows, columns = np.nonzero(np.abs(others - here) > FAR * scale)
        if not len(rows):
            break
        trials = np.tile(here, (len(rows), 1))
        trials[np.arange(len(rows)), columns] = others[rows, columns]
        heights = scores(trials)[0]
        every = here.copy()
        for k in np.argsort(heights):  # of several values for a coordinate the best comes last
            if heights[k] > height:
                every[columns[k]] = trials[k, columns[k]]
        choice = np.stack([every, trials[np.argmax(heights)]])
        tops = scores(choice)[0]
        if not tops.max() > height + RISE:
            break
        here, height = choice[np.argmax(tops)], tops.max()
    return here if height > begin + RISE else None


def _climbs(scores: Scores, starts: np.ndarray) -> list[list[Point]]:
    metric: Callable[[], Metric] = Dense if scores.dim <= DENSE else partial(Limited, MEMORY)
    searches = [descend(start, metric, STEPS, SMALL) for start in starts]
    return together(searches, partial(_uphill, scores))


def _uphill(scores: Scores, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    log_p, slope = scores(x)
    return -log_p, -slope


def _best(scores: Scores, path: list[Point], make: Make, e: np.ndarray) -> Found | None:
    looks = int(np.clip(MOST_COLUMNS // scores.dim, 1, LOOKS))
    rows = np.unique(np.linspace(len(path) - 1, 0, looks).round().astype(int))
    candidates: list[FullRank | MeanField] = []
    for row in rows:
        here = path[row]
        precision = scores.curvature(here.x)
        if np.isfinite(here.value) and np.isfinite(precision).all():
            candidates += make(here.x, -here.slope, precision)
    if not candidates:
        return None
    elbos = [elbo(scores, q, e)[0] for q in candidates]
    best = int(np.argmax(elbos))
    return Found(candidates[best], elbos[best]) if np.isfinite(elbos[best]) else None


def elbo(scores: Scores, q: Gaussian, e: np.ndarray) -> tuple[float, np.ndarray]:
    """ELBO in nats, −inf where log p is not finite at a draw, and log p − log q (n,)."""
    log_p, _ = scores(q.points(e))
    excess = log_p + q.entropy + ((e**2).sum(axis=1) - e.shape[1]) / 2
    return float(log_p.mean() + q.entropy), excess


def trial(
    scores: Scores, q: Gaussian, theta: np.ndarray, e: np.ndarray
) -> tuple[float, np.ndarray]:
    """Loss of a move on fixed draws, less q's own entropy, in nats, and its gradient."""
    x = q.trial(theta, e)
    if not np.isfinite(x).all():
        return np.inf, np.zeros(len(theta))
    log_p, slopes = scores(x)
    if not np.isfinite(log_p).all():
        return np.inf, np.zeros(len(theta))
    entropy, gradient = q.gain(theta, e, slopes)
    return -float(log_p.mean() + entropy), -gradient
