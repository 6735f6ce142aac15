"""Gaussians on the flat vector u as a fit moves them: full rank, and mean field.

Both answer the same questions. Where do standard normal draws e go? What is the ELBO after a
trial move on fixed draws, and its gradient (for a quasi-Newton search)? Where does a
natural-gradient step on the scores at fresh draws lead? All moves are made in the Gaussian's
own frame, in whitened coordinates, where no scale or correlation of u matters.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol, Self

import numpy as np
from scipy import linalg

from vi_compare.randomness import power_of_two

# Maximum dimension for a dense matrix (d, d), a covariance or an inverse Hessian: above it, one
# would take more memory and time than a fit is worth.
MOST_FULL = 300


@dataclass(frozen=True)
class Regression:
    """Scores in the frame, r = a + A e + rest, from antithetic draws.

    Attributes:
        intercept: a (d,).
        slope: A, (d, d) symmetric or (d,) its diagonal.
        noise: mean of `signal` in nats where the true a and A vanish: what noise alone gives.
    """

    intercept: np.ndarray
    slope: np.ndarray
    noise: float

    @property
    def signal(self) -> float:
        """Gain of a full natural-gradient step to lowest order, in nats."""
        return signal(self.intercept, self.slope)


def signal(a: np.ndarray, slope: np.ndarray) -> float:
    """½|a|² + ¼‖A‖², for a slope A (d, d) or its diagonal (d,)."""
    return float((a @ a) / 2 + (slope**2).sum() / 4)


class Gaussian(Protocol):
    """A Gaussian as the stages of a fit use it."""

    @property
    def mean(self) -> np.ndarray: ...

    @property
    def root(self) -> np.ndarray:
        """A factor F (d, d) of the covariance F Fᵀ."""
        ...

    @property
    def entropy(self) -> float: ...

    @property
    def size(self) -> int:
        """Number of coordinates of a trial move."""
        ...

    @property
    def draws(self) -> int:
        """Number of draws for one step: few leave it noisy, more gain little."""
        ...

    def points(self, e: np.ndarray) -> np.ndarray: ...

    def unrooted(self, v: np.ndarray) -> np.ndarray:
        """F⁻¹v for v (d,) or rows v (n, d), F its `root`."""
        ...

    def trial(self, theta: np.ndarray, e: np.ndarray) -> np.ndarray:
        """The points (n, d) of the draws e (n, d) after the move `theta`, where theta = 0 is no
        move; infinite where `theta` is too far to be made."""
        ...

    def gain(
        self, theta: np.ndarray, e: np.ndarray, gradients: np.ndarray
    ) -> tuple[float, np.ndarray]:
        """Gain in entropy by the move, in nats, and the gradient of the ELBO in theta.

        `gradients` (n, d) are those of log p at the trial's points.
        """
        ...

    def moved(self, theta: np.ndarray) -> Self: ...

    def shrunk(self, factor: float) -> Self: ...

    def halfway(self, other: Gaussian) -> Gaussian:
        """Means and root averaged: where log p is concave, so is the ELBO on this line."""
        ...


@dataclass(frozen=True)
class FullRank:
    """N(mean, L Lᵀ).

    Attributes:
        mean: (d,).
        factor: L (d, d), lower triangular with a positive diagonal.
    """

    mean: np.ndarray
    factor: np.ndarray

    @property
    def root(self) -> np.ndarray:
        return self.factor

    @property
    def entropy(self) -> float:
        return entropy(np.diag(self.factor))

    @property
    def size(self) -> int:
        d = len(self.mean)
        return d + d * (d + 1) // 2

    @property
    def draws(self) -> int:
        return enough_draws(4 * len(self.mean))

    def points(self, e: np.ndarray) -> np.ndarray:
        return self.mean + e @ self.factor.T

    def unrooted(self, v: np.ndarray) -> np.ndarray:
        return linalg.solve_triangular(self.factor, v.T, lower=True).T

    def _parts(self, theta: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Move of the mean u (d,), K (d, d) and the logarithms of its diagonal."""
        d = len(self.mean)
        k = np.zeros((d, d))
        k[np.tril_indices(d)] = theta[d:]
        logs = np.diag(k).copy()
        k[np.diag_indices(d)] = np.exp(logs)
        return theta[:d], k, logs

    def trial(self, theta: np.ndarray, e: np.ndarray) -> np.ndarray:
        u, k, logs = self._parts(theta)
        if collapses(logs):
            return np.full_like(e, np.inf)
        return self.mean + (u + e @ k.T) @ self.factor.T

    def gain(self, theta, e, gradients):
        u, k, logs = self._parts(theta)
        h = gradients @ self.factor
        by_k = h.T @ e / len(e)
        by_k[np.diag_indices(len(u))] = np.diag(by_k) * np.diag(k) + 1
        gradient = np.concatenate([h.mean(axis=0), by_k[np.tril_indices(len(u))]])
        return float(logs.sum()), gradient

    def moved(self, theta: np.ndarray) -> FullRank:
        u, k, _ = self._parts(theta)
        return FullRank(self.mean + self.factor @ u, self.factor @ k)

    def shrunk(self, factor: float) -> FullRank:
        return replace(self, factor=factor * self.factor)

    def halfway(self, other: Gaussian) -> FullRank:
        return FullRank((self.mean + other.mean) / 2, (self.factor + other.root) / 2)

    def regress(self, e: np.ndarray, gradients: np.ndarray) -> Regression:
        """Regression of the scores on e (n, d), which holds pairs e and −e in its two halves;
        `gradients` (n, d) are those of log p at their points."""
        even, odd, half = _halves(e, cut(gradients @ self.factor + e))
        n, d = half.shape
        inverse = linalg.inv(half.T @ half)
        slope = inverse @ (half.T @ odd)
        rest = ((odd - half @ slope) ** 2).sum() / max(1, n - d)
        a, slope = even.mean(axis=0), (slope + slope.T) / 2
        noise = even.var(axis=0, ddof=1).sum() / n / 2 + np.trace(inverse) * rest / 4
        return Regression(a, slope, float(noise))

    def stepped(self, found: Regression, step: float) -> tuple[FullRank, float]:
        """The Gaussian after a natural-gradient step, and KL(new‖old) in nats."""
        w, v = linalg.eigh(-step * found.slope)
        w = _bounded(1 + w)
        inverse = (v / w) @ v.T
        shift = step * inverse @ found.intercept
        kl = (np.sum(1 / w + np.log(w)) - len(w) + shift @ shift) / 2
        factor = self.factor @ linalg.cholesky(inverse, lower=True)
        return FullRank(self.mean + self.factor @ shift, factor), float(kl)


@dataclass(frozen=True)
class MeanField:
    """N(mean, diag(scales²)).

    Attributes:
        mean, scales: (d,).
        frame: F (d, d), a factor of a covariance in which the mean moves. Without it,
            correlations that the family cannot have would slow the mean down.
    """

    mean: np.ndarray
    scales: np.ndarray
    frame: np.ndarray

    @property
    def root(self) -> np.ndarray:
        return np.diag(self.scales)

    @property
    def entropy(self) -> float:
        return entropy(self.scales)

    @property
    def size(self) -> int:
        return 2 * len(self.mean)

    @property
    def draws(self) -> int:
        return enough_draws(len(self.mean) // 4)

    def points(self, e: np.ndarray) -> np.ndarray:
        return self.mean + e * self.scales

    def unrooted(self, v: np.ndarray) -> np.ndarray:
        return v / self.scales

    def trial(self, theta: np.ndarray, e: np.ndarray) -> np.ndarray:
        if collapses(theta[len(self.mean) :]):
            return np.full_like(e, np.inf)
        return self.moved(theta).points(e)

    def gain(self, theta, e, gradients):
        logs = theta[len(self.mean) :]
        scales = self.scales * np.exp(logs)
        by_log = scales * (gradients * e).mean(axis=0) + 1
        return float(logs.sum()), np.concatenate([self.frame.T @ gradients.mean(axis=0), by_log])

    def moved(self, theta: np.ndarray) -> MeanField:
        u, logs = np.split(theta, 2)
        scales = self.scales * np.exp(logs)
        return replace(self, mean=self.mean + self.frame @ u, scales=scales)

    def shrunk(self, factor: float) -> MeanField:
        return replace(self, scales=factor * self.scales)

    def halfway(self, other: Gaussian) -> MeanField:
        mean, scales = (self.mean + other.mean) / 2, (self.scales + np.diag(other.root)) / 2
        return replace(self, mean=mean, scales=scales)

    def regress(self, e: np.ndarray, gradients: np.ndarray) -> Regression:
        even, odd, half = _halves(e, cut(gradients * self.scales + e))
        n = len(half)
        squares = (half**2).sum(axis=0)
        slope = (half * odd).sum(axis=0) / squares
        # Other coordinates' slopes count as noise here, so it need not be of constant size.
        rest = ((half * (odd - half * slope)) ** 2).sum(axis=0) / squares**2
        framed = (even / self.scales) @ self.frame
        a = framed.mean(axis=0)
        noise = framed.var(axis=0, ddof=1).sum() / n / 2 + rest.sum() / 4
        return Regression(a, slope, float(noise))

    def stepped(self, found: Regression, step: float) -> tuple[MeanField, float]:
        w = _bounded(1 - step * found.slope)
        shift = step * self.frame @ found.intercept
        kl = (np.sum(1 / w + np.log(w) - 1) + np.sum((shift / self.scales) ** 2)) / 2
        new = replace(self, mean=self.mean + shift, scales=self.scales / np.sqrt(w))
        return new, float(kl)

    def reframed(self, e: np.ndarray, gradients: np.ndarray) -> MeanField:
        """The same Gaussian with the inverse of log p's curvature, averaged over it, for a frame.

        That curvature is the slope of a regression of the scores on e (n, d), which needs more
        than 2 d pairs.
        """
        _, odd, half = _halves(e, gradients * self.scales)
        slope = linalg.lstsq(half, odd)[0]
        _, factor = inverse_factor(-(slope + slope.T) / 2)
        return replace(self, frame=self.scales[:, None] * factor)


def entropy(scales: np.ndarray) -> float:
    """Entropy in nats of a Gaussian whose triangular root has the diagonal `scales` (d,)."""
    return float(np.log(scales).sum() + len(scales) * float(np.log(2 * np.pi * np.e)) / 2)


def enough_draws(wanted: int, least: int = 128) -> int:
    """The power of two, as Sobol draws need it, that is at least `wanted`, and `least`: below
    that, the noise of a step is large in any dimension."""
    return power_of_two(max(least, wanted))


def collapses(log_changes: np.ndarray, most: float = 30.0) -> bool:
    """Whether a trial changes a scale by more than the factor exp(`most`): a scale that
    collapses to 0 never comes back."""
    return bool(np.abs(log_changes).max() > most)


def inverse_factor(precision: np.ndarray, flattest: float = 1e-10) -> tuple[np.ndarray, np.ndarray]:
    """A symmetric matrix (d, d) made positive definite: its diagonal, and a factor F of its
    inverse.

    At unit diagonal, eigenvalues are replaced by their absolute values, and those below
    `flattest`, which are rounding, by it.
    """
    scale = np.sqrt(np.abs(np.diag(precision)))
    scale = np.where(scale > 0, scale, 1.0)
    w, v = linalg.eigh(precision / np.outer(scale, scale))
    w = np.maximum(np.abs(w), flattest)
    return scale**2 * (v**2 @ w), (v / np.sqrt(w)) / scale[:, None]


def lower(factor: np.ndarray) -> np.ndarray:
    """The lower triangular L with L Lᵀ = F Fᵀ, by QR: no digit is lost to squaring."""
    r = linalg.qr(factor.T, mode="r")[0]
    signs = np.where(np.diag(r) < 0, -1.0, 1.0)
    return np.tril((r * signs[:, None]).T)


def jeffreys(one: Gaussian, other: Gaussian) -> float:
    """Symmetrised KL in nats, KL(one‖other) + KL(other‖one)."""
    return _kl(one, other) + _kl(other, one)


def _kl(q: Gaussian, p: Gaussian) -> float:
    spread, shift = p.unrooted(q.root.T), p.unrooted(q.mean - p.mean)
    square = (spread**2).sum() + (shift**2).sum() - len(q.mean)
    return float(square) / 2 + p.entropy - q.entropy


def _bounded(change: np.ndarray, most: float = 4.0) -> np.ndarray:
    """Factors (d,) on precisions, kept within [1/most, most]: a step on few draws may not
    change the Gaussian beyond what those draws can tell."""
    return np.clip(change, 1 / most, most)


def cut(r: np.ndarray, most: float = 20.0) -> np.ndarray:
    """Whitened scores r (..., n, d), none longer than `most` times the median one of its n: a few
    far draws, where log p falls off a cliff, say nothing of the slope that the others share.

    Up to `most` in every direction they stay: where q is right at most draws, the few at which it
    is not are all that there is to learn from.
    """
    lengths = np.linalg.norm(r, axis=-1)
    limit = most * np.maximum(np.median(lengths, axis=-1, keepdims=True), np.sqrt(r.shape[-1]))
    return r * np.minimum(1, limit / np.maximum(lengths, 1e-300))[..., None]


def _halves(e: np.ndarray, r: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Even and odd parts (n/2, d) of r over the pairs, and the first half of e."""
    n = len(e) // 2
    return (r[:n] + r[n:]) / 2, (r[:n] - r[n:]) / 2, e[:n]
