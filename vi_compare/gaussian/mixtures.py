"""Several Gaussian mixtures side by side, as a search by natural gradients moves them.

R mixtures of K components each, so that the restarts of one fit, or the candidates for one more
component, are moved by the same few matrix products. A component is N(m, F Fᵀ) with any root F;
its inverse is moved along with it, so that nothing is factorised on the way.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.special import logsumexp


@dataclass(frozen=True)
class Mixtures:
    """R mixtures of K Gaussians over u (d,).

    Attributes:
        log_weights: (R, K), normalised.
        means: (R, K, d).
        roots: F (R, K, d, d), of covariances F Fᵀ.
        inverses: of the roots, (R, K, d, d).
        log_volumes: log |det F|, (R, K).
    """

    log_weights: np.ndarray
    means: np.ndarray
    roots: np.ndarray
    inverses: np.ndarray
    log_volumes: np.ndarray

    @classmethod
    def of(cls, log_weights: np.ndarray, means: np.ndarray, roots: np.ndarray) -> Mixtures:
        """Of weights that need not be normalised."""
        normalised = log_weights - logsumexp(log_weights, axis=1, keepdims=True)
        return cls(normalised, means, roots, np.linalg.inv(roots), np.linalg.slogdet(roots)[1])

    def __len__(self) -> int:
        return len(self.means)

    @property
    def size(self) -> int:
        """K."""
        return self.means.shape[1]

    @property
    def dim(self) -> int:
        return self.means.shape[2]

    @property
    def weights(self) -> np.ndarray:
        """(R, K)."""
        return np.exp(self.log_weights)

    def rows(self, which: Sequence[int] | np.ndarray) -> Mixtures:
        """The mixtures of these numbers, any as often as it is named."""
        return self._each(lambda a: a[np.asarray(which)])

    def components(self, which: Sequence[int] | np.ndarray) -> Mixtures:
        """Those components of every mixture, their weights normalised."""
        fewer = self._each(lambda a: a[:, np.asarray(which)])
        return fewer.weighted(fewer.log_weights)

    def weighted(self, log_weights: np.ndarray) -> Mixtures:
        """The same components at weights (R, K) that need not be normalised."""
        total = logsumexp(log_weights, axis=1, keepdims=True)
        return replace(self, log_weights=log_weights - total)

    def joined(self, other: Mixtures, weight: float) -> Mixtures:
        """Every mixture and that of the same row of `other`, which has this weight in all."""
        shares = np.log1p(-weight), np.log(weight)
        log_weights = np.concatenate(
            [one.log_weights + share for one, share in zip((self, other), shares, strict=True)], 1
        )
        both = zip(self._arrays()[1:], other._arrays()[1:], strict=True)
        return Mixtures(log_weights, *(np.concatenate(pair, axis=1) for pair in both))

    def apart(self) -> Mixtures:
        """Every component of the first mixture as a mixture of its own."""
        each = [np.swapaxes(a[:1], 0, 1) for a in self._arrays()]
        return Mixtures(*each).weighted(np.zeros((self.size, 1)))

    def pooled(self) -> Mixtures:
        """One mixture of all components of all rows, each row with the same weight."""
        whole = self._each(lambda a: a.reshape(1, -1, *a.shape[2:]))
        return whole.weighted(whole.log_weights)

    def points(self, e: np.ndarray) -> np.ndarray:
        """Where the standard normal draws e (n, d) go by every component, (R, K, n, d)."""
        return self.means[:, :, None] + e @ np.swapaxes(self.roots, -1, -2)

    def log_parts(self, u: np.ndarray) -> np.ndarray:
        """log q_k (R, K, n) of every component at u (R, n, d)."""
        some = [self._standardised(part)[0] for part in self._blocks(u)]
        return np.swapaxes(np.concatenate(some, axis=1), 1, 2)

    def log_prob(self, u: np.ndarray) -> np.ndarray:
        """log q (R, n) at u (R, n, d), in nats."""
        some = [self._log_prob(part) for part in self._blocks(u)]
        return np.concatenate(some, axis=1)

    def log_prob_and_slope(self, u: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """log q (R, n) and its gradient (R, n, d) at u (R, n, d)."""
        log_q, slopes = zip(*map(self._with_slope, self._blocks(u)), strict=True)
        return np.concatenate(log_q, axis=1), np.concatenate(slopes, axis=1)

    def _log_prob(self, u: np.ndarray) -> np.ndarray:
        return logsumexp(self._standardised(u)[0] + self.log_weights[:, None], axis=2)

    def _with_slope(self, u: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        parts, z = self._standardised(u)
        parts += self.log_weights[:, None]
        log_q = logsumexp(parts, axis=2)
        z *= np.exp(parts - log_q[..., None])[..., None]  # by the share of each component
        every = self.inverses.reshape(len(self), -1, self.dim)
        return log_q, -(z.reshape(*u.shape[:2], -1) @ every)

    def _standardised(self, u: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """log q_k (R, n, K), and the points in every component's frame (R, n, K, d)."""
        r, k, d = self.means.shape
        every = self.inverses.reshape(r, -1, d)
        middle = self.means.mean(axis=1, keepdims=True)  # far from 0 digits would cancel
        centres = np.einsum("rkij,rkj->rki", self.inverses, self.means - middle)
        z = (u - middle) @ np.swapaxes(every, 1, 2)
        z -= centres.reshape(r, 1, -1)
        z = z.reshape(r, -1, k, d)
        constant = self.log_volumes + d * np.log(2 * np.pi) / 2
        return np.einsum("rnkd,rnkd->rnk", z, z) / -2 - constant[:, None], z

    def _blocks(self, u: np.ndarray, most: int = 500_000) -> list[np.ndarray]:
        """u (R, n, d) in parts along n whose standardised points have `most` numbers: more would
        leave the cache."""
        numbers = len(self) * self.size * self.dim
        return np.array_split(u, max(1, -(-u.shape[1] * numbers // most)), axis=1)

    def _arrays(self) -> tuple[np.ndarray, ...]:
        return self.log_weights, self.means, self.roots, self.inverses, self.log_volumes

    def _each(self, change: Callable[[np.ndarray], np.ndarray]) -> Mixtures:
        return Mixtures(*map(change, self._arrays()))
