"""Gaussians along the paths of quasi-Newton ascents on log p from random starts.

As in Pathfinder (Zhang et al. 2022, "Pathfinder: parallel quasi-Newton variational
inference", JMLR 23), with the true curvature in place of the ascent's own estimate. The best
Gaussian need not stand at the end of a path: where log p rises without bound as a scale
goes to 0, the end is useless and the middle is not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial

import numpy as np

from vi_compare.gaussian.antithetic import even_pairs
from vi_compare.gaussian.gaussians import (
    MOST_FULL,
    FullRank,
    Gaussian,
    MeanField,
    inverse_factor,
    lower,
)
from vi_compare.gaussian.quasi_newton import (
    Dense,
    InverseHessian,
    Limited,
    Point,
    descend,
    together,
)
from vi_compare.scores import Scores

# (x (d,), gradient of log p (d,), precision −∇² log p (d, d), all at x) -> Gaussians
Make = Callable[[np.ndarray, np.ndarray, np.ndarray], list[FullRank] | list[MeanField]]


@dataclass(frozen=True)
class PathTuning:
    """Tunables of `best_on_paths`.

    Attributes:
        steps: maximum number of steps of an ascent.
        small: gain of a step in nats below which it is small; a few of them end an ascent.
        memory: pairs that L-BFGS remembers above `MOST_FULL` dimensions; up to them BFGS keeps
            its whole matrix.
        looks: number of iterates of a path at which the curvature is computed.
        columns: maximum number of columns, a gradient's work each, of all curvatures of one
            path together; many dimensions are left with fewer looks.
        draws: number of draws for the ELBO of a Gaussian. Few are enough to rank them, as all
            see the same.
        first: paths that are looked along before all others are: where these agree, and all
            ascents end in one place, the others would find the same.
        trusted: ascents, at least, that must end in one place for that: with eight, one of two
            modes that draw as many of them is overlooked in 1 of 128 cases.
        one_place: distance of ends in standard deviations, all coordinates together, below
            which they are one place.
        apart_elbo: two Gaussians on paths are worth following both when their ELBOs differ by
            more, in nats, ...
        apart_means: ... or their means by more, in standard deviations times sqrt(d).
    """

    steps: int = 600
    small: float = 1e-6
    memory: int = 30
    looks: int = 8
    columns: int = 1000
    draws: int = 32
    first: int = 4
    trusted: int = 8
    one_place: float = 0.5
    apart_elbo: float = 0.5
    apart_means: float = 3.0


@dataclass(frozen=True)
class ExchangeTuning:
    """Tunables of `exchanged`.

    Attributes:
        far: distance in standard deviations from which a coordinate counts as another one.
        rise: gain of log p in nats that an exchange must bring.
        sweeps: maximum number of rounds over all coordinates.
    """

    far: float = 1.0
    rise: float = 0.1
    sweeps: int = 5


@dataclass(frozen=True)
class Found:
    """A Gaussian and its ELBO in nats, estimated from few draws."""

    gaussian: FullRank | MeanField
    elbo: float


@dataclass(frozen=True)
class OnPaths:
    """The best Gaussian on every path; None where none is finite.

    Attributes:
        found: one for each path; the same for all where they agree.
        agree: whether all lead to one, and more starts would hardly lead to another.
    """

    found: list[Found | None]
    agree: bool

    @property
    def best(self) -> Found | None:
        return best_of(one for one in self.found if one)


def full_rank(x: np.ndarray, gradient: np.ndarray, precision: np.ndarray) -> list[FullRank]:
    """Gaussians at x and one Newton step from it; precision is −∇² log p (d, d) there."""
    _, factor = inverse_factor(precision)
    triangle = lower(factor)
    return [FullRank(mean, triangle) for mean in (x, x + factor @ (factor.T @ gradient))]


def mean_field(x: np.ndarray, gradient: np.ndarray, precision: np.ndarray) -> list[MeanField]:
    """Mean-field Gaussians at the same two points, with the variances that are best where log p
    is quadratic."""
    diagonal, factor = inverse_factor(precision)
    scales = 1 / np.sqrt(diagonal)
    return [MeanField(mean, scales, factor) for mean in (x, x + factor @ (factor.T @ gradient))]


def best_on_paths(
    scores: Scores,
    starts: np.ndarray,
    make: Make,
    rng: np.random.Generator,
    tuning: PathTuning = PathTuning(),
) -> OnPaths:
    """The best Gaussian on the path from each start (n, d)."""
    paths = ascents(scores, starts, tuning)
    e = even_pairs(rng, tuning.draws, scores.dim)
    look = lambda some: [best_on_path(scores, path, make, e, tuning) for path in some]
    first = OnPaths(look(paths[: tuning.first]), agree=True)
    best = first.best
    if best and len(paths) >= tuning.trusted and _agree(first.found, best, paths, tuning):
        return OnPaths([best] * len(paths), agree=True)
    return OnPaths(first.found + look(paths[tuning.first :]), agree=False)


def _agree(
    found: list[Found | None], best: Found, paths: list[list[Point]], tuning: PathTuning
) -> bool:
    """Whether the Gaussians lead to one optimum, and all paths to one place. That all end there is
    not enough: in a funnel they do, and come by Gaussians far apart on their way."""
    if not all(one and not apart(one, best, tuning) for one in found):
        return False
    ends = np.stack([path[-1].x for path in paths])
    off = [np.linalg.norm(best.gaussian.unrooted(end - ends[0])) for end in ends]
    return bool(np.max(off) < tuning.one_place)


def best_of(found: Iterable[Found]) -> Found | None:
    """The one with the highest ELBO; None of none."""
    return max(found, key=lambda one: one.elbo, default=None)


def apart(one: Found, other: Found, tuning: PathTuning = PathTuning()) -> bool:
    """Whether two Gaussians on paths are worth following both."""
    a, b = one.gaussian, other.gaussian
    distance = np.linalg.norm(b.unrooted(a.mean - b.mean)) / np.sqrt(len(a.mean))
    return bool(distance > tuning.apart_means or abs(one.elbo - other.elbo) > tuning.apart_elbo)


def exchanged(
    scores: Scores,
    best: Found,
    starts: np.ndarray,
    tuning: ExchangeTuning = ExchangeTuning(),
    paths: PathTuning = PathTuning(),
) -> np.ndarray | None:
    """The best Gaussian's mean with single coordinates from the ends of ascents from `starts`
    (n, d), exchanged as long as log p rises; None where it does not.

    Where k coordinates have two modes each, there are 2^k modes, and ten starts find ten of
    them. Yet each coordinate has been in its better mode in one of the ascents.
    """
    if scores.dim > MOST_FULL:
        return None
    others = np.stack([path[-1].x for path in ascents(scores, starts, paths)])
    here, scale = best.gaussian.mean, np.linalg.norm(best.gaussian.root, axis=1)
    height = begin = scores(here[None])[0][0]
    for _ in range(tuning.sweeps):
        rows, columns = np.nonzero(np.abs(others - here) > tuning.far * scale)
        if not len(rows):
            break
        choice = _sweep(scores, here, height, others[rows, columns], columns)
        tops = scores(choice)[0]
        if not tops.max() > height + tuning.rise:
            break
        here, height = choice[np.argmax(tops)], tops.max()
    return here if height > begin + tuning.rise else None


def _sweep(
    scores: Scores, here: np.ndarray, height: float, values: np.ndarray, columns: np.ndarray
) -> np.ndarray:
    """Two points (2, d): `here` (d,) with all those single exchanges that raise log p above
    `height`, and with the best one alone. Exchange k puts values[k] into columns[k]."""
    trials = np.tile(here, (len(columns), 1))
    trials[np.arange(len(columns)), columns] = values
    heights = scores(trials)[0]
    every = here.copy()
    for k in np.argsort(heights):  # of several values for a coordinate the best comes last
        if heights[k] > height:
            every[columns[k]] = trials[k, columns[k]]
    return np.stack([every, trials[np.argmax(heights)]])


def ascents(scores: Scores, starts: np.ndarray, tuning: PathTuning) -> list[list[Point]]:
    """The iterates of the ascent from each start (n, d), side by side."""
    limited = partial(Limited, tuning.memory)
    make: Callable[[], InverseHessian] = Dense if scores.dim <= MOST_FULL else limited
    searches = [descend(start, make, tuning.steps, tuning.small) for start in starts]
    return together(searches, partial(_negative, scores))


def _negative(scores: Scores, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """−log p (n,) and its gradients (n, d), as an ascent is the descent of −log p."""
    log_p, gradients = scores(x)
    return -log_p, -gradients


def best_on_path(
    scores: Scores,
    path: list[Point],
    make: Make,
    e: np.ndarray,
    tuning: PathTuning = PathTuning(),
) -> Found | None:
    """The best Gaussian on one path, by its ELBO on the draws e (n, d)."""
    looks = int(np.clip(tuning.columns // scores.dim, 1, tuning.looks))
    rows = np.unique(np.linspace(len(path) - 1, 0, looks).round().astype(int))
    candidates: list[FullRank | MeanField] = []
    for row in rows:
        here = path[row]
        precision = scores.curvature(here.x)
        if np.isfinite(here.value) and np.isfinite(precision).all():
            candidates += make(here.x, -here.gradient, precision)
    if not candidates:
        return None
    elbos = [elbo(scores, q, e)[0] for q in candidates]
    best = int(np.argmax(elbos))
    return Found(candidates[best], elbos[best]) if np.isfinite(elbos[best]) else None


def elbo(scores: Scores, q: Gaussian, e: np.ndarray) -> tuple[float, np.ndarray]:
    """ELBO in nats, −inf where log p is not finite at a draw, and the log-density ratios
    log p − log q (n,)."""
    log_p, _ = scores(q.points(e))
    log_ratios = log_p + q.entropy + ((e**2).sum(axis=1) - e.shape[1]) / 2
    return float(log_p.mean() + q.entropy), log_ratios


def trial(
    scores: Scores, q: Gaussian, theta: np.ndarray, e: np.ndarray
) -> tuple[float, np.ndarray]:
    """−ELBO after the move `theta` on the fixed draws e (n, d), without q's own entropy, in
    nats; and its gradient in theta."""
    x = q.trial(theta, e)
    if not np.isfinite(x).all():
        return np.inf, np.zeros(len(theta))
    log_p, gradients = scores(x)
    if not np.isfinite(log_p).all():
        return np.inf, np.zeros(len(theta))
    entropy, gradient = q.gain(theta, e, gradients)
    return -float(log_p.mean() + entropy), -gradient
