"""Several mixtures side by side, as a search by natural gradients moves them.

R mixtures of K components each, so that the restarts of one fit, or the candidates for one more
component, are moved by the same few matrix products. A component is u = m + F e with any root F,
and e standard normal or Student t (gaussian/kernels.py). The inverse of F is moved along with it,
so that nothing is factorised on the way.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.special import logsumexp

from vi_compare.gaussian.kernels import Base, GaussianKernel, Kernel


@dataclass(frozen=True)
class Mixtures:
    """R mixtures of K components over u (d,).

    Attributes:
        log_weights: (R, K), normalised.
        means: (R, K, d).
        roots: F (R, K, d, d), of covariances F Fᵀ, or of scale matrices for Student t.
        inverses: of the roots, (R, K, d, d).
        log_volumes: log |det F|, (R, K).
        dfs: degrees of freedom (R, K), infinite for Gaussians.
        kernel: what the components are.
    """

    log_weights: np.ndarray
    means: np.ndarray
    roots: np.ndarray
    inverses: np.ndarray
    log_volumes: np.ndarray
    dfs: np.ndarray
    kernel: Kernel

    @classmethod
    def of(
        cls,
        log_weights: np.ndarray,
        means: np.ndarray,
        roots: np.ndarray,
        kernel: Kernel | None = None,
        dfs: np.ndarray | None = None,
    ) -> Mixtures:
        """Of weights that need not be normalised; Gaussians where no kernel is given, and of the
        degrees of freedom at which those of the kernel begin where none are given."""
        kernel = kernel or GaussianKernel()
        normalised = log_weights - logsumexp(log_weights, axis=1, keepdims=True)
        inverses, volumes = np.linalg.inv(roots), np.linalg.slogdet(roots)[1]
        dfs = np.full(log_weights.shape, kernel.start) if dfs is None else dfs
        return cls(normalised, means, roots, inverses, volumes, dfs, kernel)

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
        return self._of([log_weights, *(np.concatenate(pair, axis=1) for pair in both)])

    def apart(self) -> Mixtures:
        """Every component of the first mixture as a mixture of its own."""
        each = self._each(lambda a: np.swapaxes(a[:1], 0, 1))
        return each.weighted(np.zeros((self.size, 1)))

    def points(self, base: Base) -> np.ndarray:
        """Where n draws go by every component, (R, K, n, d)."""
        return self.placed(self.kernel.draws(base, self.dfs))

    def placed(self, e: np.ndarray) -> np.ndarray:
        """m + F e (R, K, n, d) of every component, for e (n, d), or of its own (R, K, n, d)."""
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
        parts, pull, z = self._standardised(u)
        parts += self.log_weights[:, None]
        log_q = logsumexp(parts, axis=2)
        z *= (pull * np.exp(parts - log_q[..., None]))[..., None]  # by the share of each component
        every = self.inverses.reshape(len(self), -1, self.dim)
        return log_q, -(z.reshape(*u.shape[:2], -1) @ every)

    def _standardised(self, u: np.ndarray) -> tuple[np.ndarray, np.ndarray | float, np.ndarray]:
        """log q_k (R, n, K), c and the points in every component's frame e (R, n, K, d): there, the
        gradient of log q_k is −c e."""
        r, k, d = self.means.shape
        every = self.inverses.reshape(r, -1, d)
        middle = self.means.mean(axis=1, keepdims=True)  # far from 0 digits would cancel
        centres = np.einsum("rkij,rkj->rki", self.inverses, self.means - middle)
        z = (u - middle) @ np.swapaxes(every, 1, 2)
        z -= centres.reshape(r, 1, -1)
        z = z.reshape(r, -1, k, d)
        log_k, pull = self.kernel.profile(np.einsum("rnkd,rnkd->rnk", z, z), self.dfs, d)
        return log_k - self.log_volumes[:, None], pull, z

    def _blocks(self, u: np.ndarray, most: int = 500_000) -> list[np.ndarray]:
        """u (R, n, d) in parts along n whose standardised points have `most` numbers: more would
        leave the cache."""
        numbers = len(self) * self.size * self.dim
        return np.array_split(u, max(1, -(-u.shape[1] * numbers // most)), axis=1)

    def _arrays(self) -> tuple[np.ndarray, ...]:
        few = self.log_weights, self.means, self.roots, self.inverses, self.log_volumes
        return *few, self.dfs

    def _each(self, change: Callable[[np.ndarray], np.ndarray]) -> Mixtures:
        return self._of(list(map(change, self._arrays())))

    def _of(self, arrays: list[np.ndarray]) -> Mixtures:
        """Of the same kernel, from what `_arrays` gives."""
        log_weights, means, roots, inverses, volumes, dfs = arrays
        return Mixtures(log_weights, means, roots, inverses, volumes, dfs, self.kernel)
