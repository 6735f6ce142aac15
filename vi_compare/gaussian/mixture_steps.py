"""Natural-gradient steps on mixtures of Gaussians or Student t, for reverse KL.

In the frame of a component, at its own draws u = m + F e, the score of the whole mixture's
log-density ratio is r = Fᵀ ∇(log p − log q). Its regression on the draws, r = a + A e + rest, gives
the natural gradients of that component: a for the mean and A for the precision, as for one Gaussian
(gaussian/natural_gradient.py), here with the mixture's log q (Arenz et al. 2023, "A unified
perspective on natural gradient variational inference with Gaussian mixture models", TMLR). The
regression takes all noise out that a locally quadratic ratio would make.

For Student t the path gradients have the same form, with e drawn from a Student t: E[r] for the
mean, the symmetric part of E[r eᵀ] for the root. Their Fisher information is another
(`Kernel.factors`), and there are degrees of freedom ν to learn. Draws do not depend smoothly on
them; the gradient in log ν is the mean of the log-density ratio, less its own mean, times the score
in log ν, whose noise in nats does not grow with ν as that of an implicit gradient does. Both vanish
with the noise where q = p.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from vi_compare.gaussian.gaussians import cut
from vi_compare.gaussian.kernels import Base
from vi_compare.gaussian.mixtures import Mixtures
from vi_compare.scores import Scores


class Slopes(NamedTuple):
    """Gradients of the ELBO in nats over a component's weight, in each component's frame.

    Attributes:
        pulls: a (R, K, d), of the means.
        bends: A (R, K, d, d), of the precisions, with the sign turned.
        tails: (R, K), of log ν at a width that moves along; 0 where there is none.
    """

    pulls: np.ndarray
    bends: np.ndarray
    tails: np.ndarray


@dataclass(frozen=True)
class Seen:
    """Draws of every component, n each, and what was found there.

    Attributes:
        u: (R, K, n, d).
        log_p, log_q: (R, K, n), in nats; log p is −inf where it, or its gradient, is not finite.
        slopes: of every component.
        noise: (R, K), mean of `inner_gain` in nats where the true slopes vanish.
    """

    u: np.ndarray
    log_p: np.ndarray
    log_q: np.ndarray
    slopes: Slopes
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


def look(q: Mixtures, scores: Scores, base: Base, diagonal: bool = False, last: int = 0) -> Seen:
    """What draws say of every component, or of the `last` ones alone.

    Args:
        diagonal: whether covariances are to stay diagonal.
    """
    few = _last(q, last)
    e = q.kernel.draws(base, few.dfs)
    u = few.placed(e)
    r, k, n, d = u.shape
    log_p, gradients = scores(u.reshape(-1, d))
    log_q, slopes = q.log_prob_and_slope(u.reshape(r, k * n, d))
    log_p, log_q = log_p.reshape(r, k, n), log_q.reshape(r, k, n)
    pull = (gradients.reshape(u.shape) - slopes.reshape(u.shape)) @ few.roots
    fine = np.isfinite(log_p)[..., None]
    pulls, bends, noise = _regressed(few, np.where(fine, pull, 0.0), e, diagonal)
    tails, more = _of_tails(few, log_p - log_q, e)
    return Seen(u, log_p, log_q, Slopes(pulls, bends, tails), noise + more)


def _last(q: Mixtures, number: int) -> Mixtures:
    """The last few components, or all for 0, with what places them alone in order."""
    some = slice(-number, None)
    return replace(q, means=q.means[:, some], roots=q.roots[:, some], dfs=q.dfs[:, some])


def _regressed(q: Mixtures, r: np.ndarray, e: np.ndarray, diagonal: bool):
    """Intercepts, symmetric slopes and noise of scores r (R, K, n, d) at e (n, d), or at draws of
    each component's own, (R, K, n, d)."""
    r = cut(r)
    n, d = e.shape[-2:]
    a = r.mean(axis=2)
    slope = np.swapaxes(r, -1, -2) @ e / n
    slope = (slope + np.swapaxes(slope, -1, -2)) / 2
    if diagonal:
        slope = slope * np.eye(d)
    spread = (e**2).mean(axis=(-2, -1))  # 1 for Gaussians
    rest = r - a[:, :, None] - e @ (slope / np.reshape(spread, (*np.shape(spread), 1, 1)))
    each = (rest**2).mean(axis=2).sum(axis=-1) / n  # of |a|², and of each of the columns of A
    width = ((rest * e).sum(axis=-1) ** 2).mean(axis=2) / n / d  # of (tr A)²/d
    of_bends = each * spread * (1 if diagonal else d)
    shape, wide, _ = q.kernel.factors(q.dfs, d)
    noise = shape * (each / 2 + of_bends / 4) + (wide - shape) * width / 4
    return a, slope, noise


def _of_tails(q: Mixtures, log_ratios: np.ndarray, e: np.ndarray, most: float = 20.0):
    """Gradients in log ν and their noise in nats, (R, K) each.

    Args:
        log_ratios: (R, K, n) at draws e. Those further off than `most` times as far as most of them
            are cut there.
    """
    fine = np.isfinite(log_ratios)
    middle = np.median(np.where(fine, log_ratios, -np.inf), axis=-1, keepdims=True)
    away = np.where(fine & np.isfinite(middle), log_ratios - middle, 0.0)
    limit = most * np.median(np.abs(away), axis=-1, keepdims=True)
    away = np.clip(away, -limit, limit)
    each = (away - away.mean(axis=-1, keepdims=True)) * q.kernel.tail_scores(e, q.dfs)
    tail = q.kernel.factors(q.dfs, q.dim).tail
    return each.mean(axis=-1), tail * each.var(axis=-1) / each.shape[-1] / 2


def _natural(q: Mixtures, slopes: Slopes) -> Slopes:
    """Natural gradients of the components that have slopes, the last ones of q."""
    dfs, d = q.dfs[:, -slopes.pulls.shape[1] :], slopes.pulls.shape[2]
    shape, wide, tail = q.kernel.factors(dfs, d)
    width = np.trace(slopes.bends, axis1=-2, axis2=-1) / d * (wide - shape)
    bends = shape[..., None, None] * slopes.bends + width[..., None, None] * np.eye(d)
    tails = q.kernel.limited(tail * slopes.tails, dfs)
    return Slopes(shape[..., None] * slopes.pulls, bends, tails)


def stepped(q: Mixtures, seen: Seen, size: float, farthest: float) -> Mixtures:
    """Every component that was looked at moved by its natural gradients, weights as they are.

    A step whose KL(new‖old) would be more than `farthest` nats is shortened, each component by
    itself, as a regression holds near its draws only.
    """
    natural = _natural(q, seen.slopes)
    bend, turn = np.linalg.eigh(natural.bends)
    pull = np.einsum("rkij,rki->rkj", turn, natural.pulls)
    sizes = np.full(bend.shape[:2], size)
    while True:
        grown, shift = _moves(bend, pull, sizes)
        kl = ((1 / grown - 1 + np.log(grown)).sum(axis=-1) + (shift**2).sum(axis=-1)) / 2
        too_far = kl > farthest
        if not too_far.any():
            break
        sizes = np.where(too_far, 0.7 * sizes, sizes)
    some, back = slice(-bend.shape[1], None), np.swapaxes(turn, -1, -2)
    means, roots, inverses, volumes, dfs = (
        np.array(a) for a in (q.means, q.roots, q.inverses, q.log_volumes, q.dfs)
    )
    dfs[:, some], wider = q.kernel.moved(dfs[:, some], sizes * natural.tails, q.dim)
    stretch = np.exp(wider)[..., None] / np.sqrt(grown)
    turned = roots[:, some] @ turn
    means[:, some] += np.einsum("rkij,rkj->rki", turned, shift)
    roots[:, some] = (turned * stretch[..., None, :]) @ back
    inverses[:, some] = (turn / stretch[..., None, :]) @ (back @ inverses[:, some])
    volumes[:, some] += np.log(stretch).sum(axis=-1)
    return replace(q, means=means, roots=roots, inverses=inverses, log_volumes=volumes, dfs=dfs)


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


def inner_gain(q: Mixtures, slopes: Slopes) -> np.ndarray:
    """Gain (R, K) in nats of a full natural-gradient step of each component alone to lowest order:
    ½|a|² + ¼‖A‖² for a Gaussian."""
    natural = _natural(q, slopes)
    of_means = (slopes.pulls * natural.pulls).sum(axis=-1)
    of_roots = (slopes.bends * natural.bends).sum(axis=(-1, -2)) / 2
    return (of_means + of_roots + slopes.tails * natural.tails) / 2


def signal(q: Mixtures, slopes: Slopes, rewards: np.ndarray) -> np.ndarray:
    """Gain (R,) in nats of a full natural-gradient step to lowest order, were the components
    apart: `inner_gain` of every component by its weight, and half the variance of the rewards."""
    ahead = rewards - elbo(q, rewards)[:, None]
    return (q.weights * (inner_gain(q, slopes) + ahead**2 / 2)).sum(axis=1)


def left(q: Mixtures, seen: Seen) -> np.ndarray:
    """What the draws of `seen` say of `signal` beyond their noise, (R,) in nats."""
    return signal(q, seen.slopes, seen.rewards) - noise(q, seen)


def noise(q: Mixtures, seen: Seen) -> np.ndarray:
    """Mean of `signal` (R,) where the truth is at rest."""
    spread = np.where(np.isfinite(seen.log_ratios), seen.log_ratios, np.nan)
    with np.errstate(invalid="ignore"):
        rewards = np.nan_to_num(np.nanvar(spread, axis=-1)) / spread.shape[-1]
    return (q.weights * (seen.noise + rewards / 2)).sum(axis=1)
