"""Natural-gradient steps on Gaussian mixtures, for reverse KL.

In the frame of a component, at its own draws u = m + F e, the score of the whole mixture's
log-density ratio is r = Fᵀ ∇(log p − log q). Its regression on the draws, r = a + A e + rest, gives
the natural gradients of that component: a for the mean and A for the precision, as for one Gaussian
(gaussian/natural_gradient.py), here with the mixture's log q (Arenz et al. 2023, "A unified
perspective on natural gradient variational inference with Gaussian mixture models", TMLR). The
regression takes all noise out that a locally quadratic ratio would make.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from vi_compare.gaussian.gaussians import cut
from vi_compare.gaussian.mixtures import Mixtures
from vi_compare.scores import Scores


@dataclass(frozen=True)
class Seen:
    """Draws of every component, n each, and what was found there.

    Attributes:
        u: (R, K, n, d).
        log_p, log_q: (R, K, n), in nats; log p is −inf where it, or its gradient, is not finite.
        pulls: a (R, K, d), natural gradients of the means, in each component's frame.
        bends: A (R, K, d, d), those of the precisions, with the sign turned.
        noise: (R, K), mean of ½|a|² + ¼‖A‖² in nats where the true ones vanish.
    """

    u: np.ndarray
    log_p: np.ndarray
    log_q: np.ndarray
    pulls: np.ndarray
    bends: np.ndarray
    noise: np.ndarray

    @property
    def log_ratios(self) -> np.ndarray:
        """log p − log q (R, K, n)."""
        return self.log_p - self.log_q

    @property
    def rewards(self) -> np.ndarray:
        """Mean log-density ratio (R, K) of every component's draws where it is finite."""
        return mean_of_finite(self.log_ratios)

    @property
    def lost(self) -> np.ndarray:
        """Share (R, K) of the draws at which log p is not finite."""
        return 1 - np.isfinite(self.log_p).mean(axis=-1)


def mean_of_finite(values: np.ndarray) -> np.ndarray:
    """Means over the last axis; −inf where nothing is finite."""
    fine = np.isfinite(values)
    count = fine.sum(axis=-1)
    total = np.where(fine, values, 0.0).sum(axis=-1)
    return np.where(count > 0, total / np.maximum(count, 1), -np.inf)


def look(q: Mixtures, scores: Scores, e: np.ndarray, diagonal: bool = False, last: int = 0) -> Seen:
    """What the draws e (n, d) say of every component, or of the `last` ones alone.

    Args:
        e: standard normal draws of mean 0 and covariance I.
        diagonal: whether covariances are to stay diagonal.
    """
    some = slice(-last, None)
    few = replace(q, means=q.means[:, some], roots=q.roots[:, some])
    u = few.points(e)
    r, k, n, d = u.shape
    log_p, gradients = scores(u.reshape(-1, d))
    log_q, slopes = q.log_prob_and_slope(u.reshape(r, k * n, d))
    log_p = log_p.reshape(r, k, n)
    pull = (gradients.reshape(u.shape) - slopes.reshape(u.shape)) @ few.roots
    fine = np.isfinite(log_p)[..., None]
    pulls, bends, noise = _regressed(np.where(fine, pull, 0.0), e, diagonal)
    return Seen(u, log_p, log_q.reshape(r, k, n), pulls, bends, noise)


def _regressed(r: np.ndarray, e: np.ndarray, diagonal: bool):
    """Intercepts, symmetric slopes and noise of scores r (R, K, n, d) at e (n, d)."""
    r = cut(r)
    n, d = e.shape
    a = r.mean(axis=2)
    slope = np.swapaxes(r, -1, -2) @ e / n
    slope = (slope + np.swapaxes(slope, -1, -2)) / 2
    if diagonal:
        slope = slope * np.eye(d)
    rest = r - a[:, :, None] - e @ slope
    each = (rest**2).mean(axis=2).sum(axis=-1) / n  # of |a|², and of each of the columns of A
    return a, slope, each * (1 / 2 + (1 if diagonal else d) / 4)


def stepped(q: Mixtures, seen: Seen, size: float, farthest: float) -> Mixtures:
    """Every component that was looked at moved by its natural gradients, weights as they are.

    A step whose KL(new‖old) would be more than `farthest` nats is shortened, each component by
    itself, as a regression holds near its draws only.
    """
    bend, turn = np.linalg.eigh(seen.bends)
    pull = np.einsum("rkij,rki->rkj", turn, seen.pulls)
    sizes = np.full(bend.shape[:2], size)
    while True:
        grown, shift = _moves(bend, pull, sizes)
        kl = ((1 / grown - 1 + np.log(grown)).sum(axis=-1) + (shift**2).sum(axis=-1)) / 2
        too_far = kl > farthest
        if not too_far.any():
            break
        sizes = np.where(too_far, 0.7 * sizes, sizes)
    some, back = slice(-bend.shape[1], None), np.swapaxes(turn, -1, -2)
    means, roots, inverses, volumes = (
        np.array(a) for a in (q.means, q.roots, q.inverses, q.log_volumes)
    )
    turned = roots[:, some] @ turn
    means[:, some] += np.einsum("rkij,rkj->rki", turned, shift)
    roots[:, some] = (turned / np.sqrt(grown)[..., None, :]) @ back
    inverses[:, some] = (turn * np.sqrt(grown)[..., None, :]) @ (back @ inverses[:, some])
    volumes[:, some] -= np.log(grown).sum(axis=-1) / 2
    return replace(q, means=means, roots=roots, inverses=inverses, log_volumes=volumes)


def _moves(bend: np.ndarray, pull: np.ndarray, sizes: np.ndarray, most: float = 4.0):
    """Factors of the precisions (R, K, d) along the axes of `bend`, at most `most` and at least
    1/`most`, and shifts of the means, for steps of `sizes` (R, K)."""
    grown = np.clip(1 - sizes[..., None] * bend, 1 / most, most)
    return grown, sizes[..., None] * pull / grown


def reweighted(q: Mixtures, rewards: np.ndarray, size: float, most: float = 1.0) -> Mixtures:
    """Weights moved by their natural gradient: those of components with more reward (R, K) than
    the others grow, by a factor of e^`most` at most.

    No weight falls below exp(−20), from where it could come back.
    """
    weights = q.weights
    finite = np.where(np.isfinite(rewards), rewards, -1e3)
    ahead = finite - (weights * finite).sum(axis=1, keepdims=True)
    moved = q.log_weights + np.clip(size * ahead, -most, most)
    return q.weighted(np.maximum(moved, -20.0))


def elbo(q: Mixtures, rewards: np.ndarray) -> np.ndarray:
    """Stratified ELBO (R,) in nats."""
    with np.errstate(invalid="ignore"):
        each = np.where(q.weights > 0, q.weights * rewards, 0.0)
    return each.sum(axis=1)


def signal(q: Mixtures, pulls: np.ndarray, bends: np.ndarray, rewards: np.ndarray) -> np.ndarray:
    """Gain (R,) in nats of a full natural-gradient step to lowest order, were the components
    apart: ½|a|² + ¼‖A‖² of every component by its weight, and half the variance of the rewards."""
    inner = (pulls**2).sum(axis=-1) / 2 + (bends**2).sum(axis=(-1, -2)) / 4
    ahead = rewards - elbo(q, rewards)[:, None]
    return (q.weights * (inner + ahead**2 / 2)).sum(axis=1)


def left(q: Mixtures, seen: Seen) -> np.ndarray:
    """What the draws of `seen` say of `signal` beyond their noise, (R,) in nats."""
    return signal(q, seen.pulls, seen.bends, seen.rewards) - noise(q, seen)


def noise(q: Mixtures, seen: Seen) -> np.ndarray:
    """Mean of `signal` (R,) where the truth is at rest."""
    spread = np.where(np.isfinite(seen.log_ratios), seen.log_ratios, np.nan)
    with np.errstate(invalid="ignore"):
        rewards = np.nan_to_num(np.nanvar(spread, axis=-1)) / spread.shape[-1]
    return (q.weights * (seen.noise + rewards / 2)).sum(axis=1)
