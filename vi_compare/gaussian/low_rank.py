"""Gaussians with a covariance of low rank plus a diagonal, as a fit moves them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property, partial

import numpy as np
from scipy import linalg

from vi_compare.gaussian.gaussians import (
    FullRank,
    Gaussian,
    MeanField,
    collapses,
    enough_draws,
    entropy,
)
from vi_compare.gaussian.quasi_newton import Limited, descend, together


@dataclass(frozen=True)
class Projection:
    """Tunables of `project`.

    Attributes:
        least_share: share of its standard deviation that a coordinate always keeps for
            itself; where a factor could explain it all, rounding in Woodbury's formula would
            make the density nonsense.
        starts: number of searches: one from the principal factors, the others from random
            factors, as the KL has local optima.
        steps: maximum number of L-BFGS steps of each.
        memory: pairs that L-BFGS remembers.
        small: gain of a step in nats below which it is small.
    """

    least_share: float = 1e-5
    starts: int = 3
    steps: int = 400
    memory: int = 30
    small: float = 1e-6


@dataclass(frozen=True)
class LowRank:
    """N(mean, W Wᵀ + diag(own² + least²)).

    Attributes:
        mean, own: (d,).
        factor: W (d, r).
        least: (d,) what a coordinate always keeps of its own (`Projection.least_share`), as
            `own` may go to 0.
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
        return entropy(np.diag(self.root))

    @property
    def size(self) -> int:
        return 2 * len(self.mean) + self.factor.size

    @property
    def draws(self) -> int:
        return enough_draws(4 * len(self.mean))

    @property
    def _units(self) -> np.ndarray:
        """Standard deviations (d,), in which the factor moves."""
        return np.hypot(np.linalg.norm(self.factor, axis=1), self.scales)

    def points(self, e: np.ndarray) -> np.ndarray:
        return self.mean + e @ self.root.T

    def unrooted(self, v: np.ndarray) -> np.ndarray:
        return linalg.solve_triangular(self.root, v.T, lower=True).T

    def trial(self, theta: np.ndarray, e: np.ndarray) -> np.ndarray:
        if collapses(theta[-len(self.mean) :]):
            return np.full_like(e, np.inf)
        return self.moved(theta).points(e)

    def gain(self, theta, e, gradients):
        new = self.moved(theta)
        root = new.root
        by_root = np.tril(gradients.T @ e / len(e)) + np.diag(1 / np.diag(root))
        by_covariance = _through_cholesky(root, by_root)
        by_factor = 2 * self._units[:, None] * (by_covariance @ new.factor)
        by_log = 2 * np.diag(by_covariance) * new.own**2
        by_mean = self.frame.T @ gradients.mean(axis=0)
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


def project(
    q: FullRank | MeanField,
    rank: int,
    rng: np.random.Generator,
    tuning: Projection = Projection(),
) -> LowRank:
    """The Gaussian of rank `rank` nearest to q by KL(·‖q), the best of a few searches.

    A mean-field q has no correlations to project. Its factor is small and random, because at 0
    the gradient of the ELBO in the factor vanishes.
    """
    d, rank = len(q.mean), min(rank, len(q.mean))
    if isinstance(q, MeanField):
        factor = 0.1 * q.scales[:, None] * rng.standard_normal((d, rank)) / np.sqrt(rank)
        return LowRank(q.mean, factor, q.scales, tuning.least_share * q.scales, q.frame)
    scale = np.linalg.norm(q.factor, axis=1)
    inner = linalg.solve_triangular(q.factor / scale[:, None], np.eye(d), lower=True)
    precision = inner.T @ inner
    principal = principal_factors(linalg.inv(precision), rank)
    begin = [np.concatenate([principal[0].ravel(), np.log(principal[1]) / 2])]
    begin += [_random_start(rng, precision, rank) for _ in range(tuning.starts - 1)]

    def objective(thetas: np.ndarray):
        results = [_kl(theta, precision, rank, tuning.least_share) for theta in thetas]
        return tuple(map(np.stack, zip(*results, strict=True)))

    memory = partial(Limited, tuning.memory)
    searches = [descend(x, memory, tuning.steps, tuning.small) for x in begin]
    ends = [path[-1] for path in together(searches, objective)]
    x = min(ends, key=lambda end: end.value).x
    factor, own = x[:-d].reshape(d, rank), np.exp(x[-d:])
    least = tuning.least_share * scale
    return LowRank(q.mean, scale[:, None] * factor, scale * own, least, q.factor)


def _random_start(rng: np.random.Generator, precision: np.ndarray, rank: int) -> np.ndarray:
    d = len(precision)
    own = np.log(np.diag(precision)) / -2
    return np.concatenate([0.5 * rng.standard_normal(d * rank), own])


def _kl(
    theta: np.ndarray, precision: np.ndarray, rank: int, least_share: float
) -> tuple[float, np.ndarray]:
    """KL up to a constant, ½ tr(P C) − ½ log|C|, and its gradient in theta = (W, l), where
    C = W Wᵀ + diag(exp(2 l) + least_share²)."""
    d = len(precision)
    factor, logs = theta[:-d].reshape(d, rank), theta[-d:]
    if collapses(logs):
        return np.inf, np.zeros_like(theta)
    own = np.exp(2 * logs)
    covariance = factor @ factor.T + np.diag(own + least_share**2)
    try:
        root = linalg.cholesky(covariance, lower=True)
    except (linalg.LinAlgError, ValueError):
        return np.inf, np.zeros_like(theta)
    value = (precision * covariance).sum() / 2 - np.log(np.diag(root)).sum()
    by_covariance = precision - linalg.cho_solve((root, True), np.eye(d))
    gradient = [(by_covariance @ factor).ravel(), np.diag(by_covariance) * own]
    return float(value), np.concatenate(gradient)


def principal_factors(
    correlation: np.ndarray, rank: int, rounds: int = 50, least_own: float = 1e-3
) -> tuple[np.ndarray, np.ndarray]:
    """W (d, rank) and variances (d,) with correlation ≈ W Wᵀ + diag(variances), by iterated
    principal factors (Harman 1976, "Modern Factor Analysis", chapter 8).

    Args:
        correlation: (d, d).
        rank: number of factors.
        rounds: number of iterations; a search goes on from the result, so rough is enough.
        least_own: minimum variance that a coordinate keeps for itself, as a share.
    """
    own = np.full(len(correlation), 0.5)
    factor = np.zeros((len(correlation), rank))
    for _ in range(rounds):
        w, v = linalg.eigh(correlation - np.diag(own))
        factor = v[:, ::-1][:, :rank] * np.sqrt(np.maximum(w[::-1][:rank], 0.0))
        own = np.clip(1 - (factor**2).sum(axis=1), least_own, 1.0)
    return factor, own
