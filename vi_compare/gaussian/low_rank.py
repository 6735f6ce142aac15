"""Gaussians with a covariance of low rank plus a diagonal, as a fit moves them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property, partial

import numpy as np
from scipy import linalg

from vi_compare.gaussian.gaussians import (
    LEAST_DRAWS,
    LOG_2_PI_E,
    MOST_LOG,
    FullRank,
    Gaussian,
    MeanField,
)
from vi_compare.gaussian.quasi_newton import Limited, descend, together
from vi_compare.randomness import power_of_two

MOST_DRAWS = 2048
# Of the standard deviation of a coordinate, what is always its own.
LEAST_SHARE = 1e-5
# Of a projection: starts, steps, memory, and when gains are small.
STARTS, STEPS, MEMORY, SMALL = 3, 400, 30, 1e-6
# Of the principal factors: rounds, and the least variance of its own that a coordinate keeps.
ROUNDS, LEAST_OWN = 50, 1e-3


@dataclass(frozen=True)
class LowRank:
    """N(mean, W Wᵀ + diag(own² + least²)).

    Attributes:
        mean, own: (d,).
        factor: W (d, r).
        least: (d,) what a coordinate keeps of its own: where a factor can explain it all, own
            goes to 0, and rounding in Woodbury's formula makes the density nonsense.
        frame: F (d, d), a factor of a covariance in which the mean moves.
    """

    mean: np.ndarray
    factor: np.ndarray
    own: np.ndarray
    least: np.ndarray
    frame: np.ndarray

    @cached_property
    def root(self) -> np.ndarray:
        """Lower triangular; NaN where rounding has taken the covariance's definiteness."""
        covariance = self.factor @ self.factor.T + np.diag(self.scales**2)
        scale = np.sqrt(np.diag(covariance))
        try:
            inner = linalg.cholesky(covariance / np.outer(scale, scale), lower=True)
        except (linalg.LinAlgError, ValueError):
            return np.full_like(covariance, np.nan)
        return scale[:, None] * inner

    @property
    def scales(self) -> np.ndarray:
        """Standard deviations (d,) of what is each coordinate's own."""
        return np.hypot(self.own, self.least)

    @property
    def entropy(self) -> float:
        return float(np.log(np.diag(self.root)).sum() + len(self.mean) * LOG_2_PI_E / 2)

    @property
    def size(self) -> int:
        return 2 * len(self.mean) + self.factor.size

    @property
    def draws(self) -> int:
        return power_of_two(int(np.clip(4 * len(self.mean), LEAST_DRAWS, MOST_DRAWS)))

    @property
    def _units(self) -> np.ndarray:
        """Standard deviations (d,), in which the factor moves."""
        return np.hypot(np.linalg.norm(self.factor, axis=1), self.scales)

    def points(self, e: np.ndarray) -> np.ndarray:
        return self.mean + e @ self.root.T

    def unrooted(self, v: np.ndarray) -> np.ndarray:
        return linalg.solve_triangular(self.root, v.T, lower=True).T

    def trial(self, theta: np.ndarray, e: np.ndarray) -> np.ndarray:
        if np.abs(theta[-len(self.mean) :]).max() > MOST_LOG:
            return np.full_like(e, np.inf)
        return self.moved(theta).points(e)

    def gain(self, theta, e, slopes):
        new = self.moved(theta)
        root = new.root
        by_root = np.tril(slopes.T @ e / len(e)) + np.diag(1 / np.diag(root))
        by_covariance = _through_cholesky(root, by_root)
        by_factor = 2 * self._units[:, None] * (by_covariance @ new.factor)
        by_log = 2 * np.diag(by_covariance) * new.own**2
        by_mean = self.frame.T @ slopes.mean(axis=0)
        gained = np.log(np.diag(root) / np.diag(self.root)).sum()
        return float(gained), np.concatenate([by_mean, by_factor.ravel(), by_log])

    def moved(self, theta: np.ndarray) -> LowRank:
        d = len(self.mean)
        u, w, logs = theta[:d], theta[d:-d].reshape(self.factor.shape), theta[-d:]
        return replace(
            self,
            mean=self.mean + self.frame @ u,
            factor=self.factor + self._units[:, None] * w,
            own=self.own * np.exp(logs),
        )

    def shrunk(self, factor: float) -> LowRank:
        return replace(
            self, factor=factor * self.factor, own=factor * self.own, least=factor * self.least
        )

    def halfway(self, other: Gaussian) -> FullRank:
        return FullRank((self.mean + other.mean) / 2, (self.root + other.root) / 2)


def _through_cholesky(root: np.ndarray, by_root: np.ndarray) -> np.ndarray:
    """Gradient in a covariance C = L Lᵀ (d, d), symmetric, from the one in L (Murray 2016,
    "Differentiation of the Cholesky decomposition", equation 10)."""
    inner = np.tril(root.T @ by_root)
    inner[np.diag_indices(len(root))] /= 2
    half = linalg.solve_triangular(root, inner.T + inner, lower=True, trans="T").T
    return linalg.solve_triangular(root, half, lower=True, trans="T") / 2


def project(q: FullRank | MeanField, rank: int, rng: np.random.Generator) -> LowRank:
    """The Gaussian of that rank which is nearest to q by KL(·‖q), of a few starts.

    A mean-field q has nothing to be projected: its factor is small and random, because at 0
    the ELBO has no slope in it.
    """
    d, rank = len(q.mean), min(rank, len(q.mean))
    if isinstance(q, MeanField):
        factor = 0.1 * q.scales[:, None] * rng.standard_normal((d, rank)) / np.sqrt(rank)
        return LowRank(q.mean, factor, q.scales, LEAST_SHARE * q.scales, q.frame)
    scale = np.linalg.norm(q.factor, axis=1)
    inner = linalg.solve_triangular(q.factor / scale[:, None], np.eye(d), lower=True)
    precision = inner.T @ inner
    principal = principal_factors(linalg.inv(precision), rank)
    begin = [np.concatenate([principal[0].ravel(), np.log(principal[1]) / 2])]
    begin += [_random_start(rng, precision, rank) for _ in range(STARTS - 1)]

    def objective(thetas: np.ndarray):
        results = [_excess(theta, precision, rank) for theta in thetas]
        return tuple(map(np.stack, zip(*results, strict=True)))

    searches = [descend(x, partial(Limited, MEMORY), STEPS, SMALL) for x in begin]
    ends = [path[-1] for path in together(searches, objective)]
    x = min(ends, key=lambda end: end.value).x
    factor, own = x[:-d].reshape(d, rank), np.exp(x[-d:])
    return LowRank(q.mean, scale[:, None] * factor, scale * own, LEAST_SHARE * scale, q.factor)


def _random_start(rng: np.random.Generator, precision: np.ndarray, rank: int) -> np.ndarray:
    d = len(precision)
    own = np.log(np.diag(precision)) / -2
    return np.concatenate([0.5 * rng.standard_normal(d * rank), own])


def _excess(theta: np.ndarray, precision: np.ndarray, rank: int) -> tuple[float, np.ndarray]:
    """½ tr(P C) − ½ log|C| and its gradient, C = W Wᵀ + diag(exp(2 l)) + what is kept."""
    d = len(precision)
    factor, logs = theta[:-d].reshape(d, rank), theta[-d:]
    if np.abs(logs).max() > MOST_LOG:
        return np.inf, np.zeros_like(theta)
    own = np.exp(2 * logs)
    covariance = factor @ factor.T + np.diag(own + LEAST_SHARE**2)
    try:
        root = linalg.cholesky(covariance, lower=True)
    except (linalg.LinAlgError, ValueError):
        return np.inf, np.zeros_like(theta)
    value = (precision * covariance).sum() / 2 - np.log(np.diag(root)).sum()
    slope = precision - linalg.cho_solve((root, True), np.eye(d))
    return float(value), np.concatenate([(slope @ factor).ravel(), np.diag(slope) * own])


def principal_factors(correlation: np.ndarray, rank: int) -> tuple[np.ndarray, np.ndarray]:
    """W (d, rank) and variances (d,) with correlation ≈ W Wᵀ + diag(variances), by iterated
    principal factors (Harman 1976, "Modern Factor Analysis", chapter 8)."""
    own = np.full(len(correlation), 0.5)
    factor = np.zeros((len(correlation), rank))
    for _ in range(ROUNDS):
        w, v = linalg.eigh(correlation - np.diag(own))
        factor = v[:, ::-1][:, :rank] * np.sqrt(np.maximum(w[::-1][:rank], 0.0))
        own = np.clip(1 - (factor**2).sum(axis=1), LEAST_OWN, 1.0)
    return factor, own
