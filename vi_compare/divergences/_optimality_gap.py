"""The optimality gap of a Gaussian under reverse KL, in nats: how much it has left to gain,
which a loss that has stopped falling does not tell.

Adam on a target much wider than its steps creeps: the loss falls by less than its noise while
the optimum is tens of nats away. Two questions see that; the one that sees more is believed.

- What would a step of natural gradient gain? To lowest order ½ gᵀF⁻¹g, g the gradient and F
  the Fisher information of q. At the optimum the Hessian in the mean is the precision of q
  itself (Opper and Archambeau 2009, "The variational Gaussian approximation revisited",
  Neural Computation 21(3)). So near it the number is right for the mean, and a scale that is
  far off has a large gradient. It does not see valleys that tie a mean to a scale, as in a
  funnel.
- What does a quasi-Newton search on fixed draws gain, measured on fresh ones? Never more than
  is left, but less where the parameters are too many for the draws.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial, singledispatch

import numpy as np
from jax import Array

from vi_compare.approximation import GuideApproximation
from vi_compare.estimate import Estimate
from vi_compare.gaussian.antithetic import even_pairs, pairs
from vi_compare.gaussian.gaussians import FullRank, MeanField
from vi_compare.gaussian.natural_gradient import LOST
from vi_compare.gaussian.pathfinder import trial
from vi_compare.gaussian.quasi_newton import Limited, descend, together
from vi_compare.randomness import generator, power_of_two
from vi_compare.scores import Scores


@dataclass(frozen=True)
class GapEffort:
    """How hard the two questions look.

    Attributes:
        draws: minimum of one batch. In d dimensions a batch has at least 4 d of them, because
            a step is a regression on d + 1 columns; rounded up to a power of two.
        batches: of the natural-gradient step, whose spread gives its standard error; the
            search is judged on as many draws as they have together.
        steps: maximum of the quasi-Newton search, which has to see a gap and not to close it.
        memory: pairs of steps in its approximate Hessian (L-BFGS).
        tolerance: gain of a step in nats; the search ends after three in a row below it.
    """

    draws: int = 1024
    batches: int = 8
    steps: int = 30
    memory: int = 20
    tolerance: float = 1e-4

    def size(self, dim: int) -> int:
        """Draws of one batch in `dim` dimensions."""
        return power_of_two(max(self.draws, 4 * dim))


def optimality_gap(
    q: GuideApproximation, key: Array, effort: GapEffort = GapEffort()
) -> Estimate | None:
    """Estimated nats of reverse KL between q and the optimum of its family that it is near.

    May come out below 0 by chance. `n` counts gradients of log p. None for a guide that is
    no Gaussian of full rank or mean field, where log p is too often not finite, and for a
    model that sees minibatches: there it would ask for all data too often.
    """
    gaussian = q.family.gaussian(q.params, q.target)
    if gaussian is None or q.target.subsampled:
        return None
    scores, rng = Scores(q.target), generator(key)
    drawn = _drawn(gaussian, scores, rng, effort)
    if drawn is None:
        return None
    gaussian = _framed(gaussian, *drawn)
    both = [question(gaussian, scores, rng, effort) for question in (_by_step, _by_search)]
    if any(one.value is None for one in both):
        return None
    return replace(max(both, key=lambda one: one.value or 0.0), n=scores.gradients)


def _by_step(
    q: FullRank | MeanField, scores: Scores, rng: np.random.Generator, effort: GapEffort
) -> Estimate:
    """The gain of a natural-gradient step, freed of what its noise adds."""
    gains = []
    for _ in range(effort.batches):
        drawn = _drawn(q, scores, rng, effort)
        if drawn is None:
            return Estimate.missing("log p is too often not finite")
        found = q.regress(*drawn)
        gains.append(found.signal - found.noise)
    return Estimate.mean(gains, "nats")


def _by_search(
    q: FullRank | MeanField, scores: Scores, rng: np.random.Generator, effort: GapEffort
) -> Estimate:
    """The gain of a search on fixed draws, on fresh ones."""
    draws = effort.size(scores.dim)
    fixed = even_pairs(rng, draws, scores.dim)

    def objective(points):
        values, slopes = zip(*(trial(scores, q, theta, fixed) for theta in points), strict=True)
        return np.array(values), np.stack(slopes)

    hessian = partial(Limited, effort.memory)
    search = descend(np.zeros(q.size), hessian, effort.steps, effort.tolerance)
    (path,) = together([search], objective)
    moved = q.moved(path[-1].x)
    fresh = pairs(rng, effort.batches * draws, scores.dim)
    (new, _), (old, _) = scores(moved.points(fresh)), scores(q.points(fresh))
    both = (np.isfinite(new) & np.isfinite(old)).reshape(2, -1).all(axis=0)
    gains = (new - old).reshape(2, -1)[:, both].mean(axis=0) + moved.entropy - q.entropy
    return Estimate.mean(gains, "nats")


def _drawn(
    q: FullRank | MeanField, scores: Scores, rng: np.random.Generator, effort: GapEffort
) -> tuple[np.ndarray, np.ndarray] | None:
    """Antithetic pairs and the gradients of log p there, without pairs that lack one."""
    e = pairs(rng, effort.size(scores.dim), scores.dim)
    log_p, gradients = scores(q.points(e))
    both = np.isfinite(log_p).reshape(2, -1).all(axis=0)
    if both.mean() < 1 - LOST:
        return None
    rows = np.tile(both, 2)
    return e[rows], gradients[rows]


@singledispatch
def _framed(q: FullRank | MeanField, e: np.ndarray, slopes: np.ndarray) -> FullRank | MeanField:
    """The same Gaussian, in coordinates in which its own Fisher information is the Hessian."""
    return q


@_framed.register
def _(q: MeanField, e, slopes):
    return q.reframed(e, slopes)
