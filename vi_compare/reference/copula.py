"""A Gaussian copula with the margins of given draws: a density that is close to many
targets and costs nothing to fit. Used to bridge to, not as an approximation of its own.

Liu, Lafferty and Wasserman (2009), "The nonparanormal", JMLR 10.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import ndtr, ndtri
from scipy.stats import rankdata


@dataclass(frozen=True)
class Binning:
    """How the margins of a copula are made.

    Attributes:
        draws_per_bin: the noise of a margin is about bins ÷ (2n) nats, 1/120 at 60 a bin.
        fewest, most: bins of a margin, whatever the number of draws.
        spread: share of every margin that is laid evenly over its range and as much again
            on either side, so that draws a little outside of those seen have a density.
    """

    draws_per_bin: int = 60
    fewest: int = 10
    most: int = 300
    spread: float = 0.005


@dataclass(frozen=True)
class Copula:
    """q(u) = Π f_i(u_i) × the Gaussian copula density; f_i constant between `edges`.

    Attributes:
        edges: (d, B + 1); cdf: (d, B + 1) at the edges.
        tril: (d, d) Cholesky factor of the correlation of the normal scores.
    """

    edges: np.ndarray
    cdf: np.ndarray
    tril: np.ndarray

    @classmethod
    def of(cls, u: np.ndarray, binning: Binning = Binning()) -> Copula:
        """Fitted to draws u (n, d).

        Raises:
            numpy.linalg.LinAlgError: when the draws lie in a subspace.
        """
        n, d = u.shape
        bins = int(np.clip(n // binning.draws_per_bin, binning.fewest, binning.most))
        margins = [_margin(u[:, i], bins, binning.spread) for i in range(d)]
        scores = ndtri((rankdata(u, axis=0) - 0.5) / n)
        tril = np.linalg.cholesky(np.atleast_2d(np.corrcoef(scores.T)))
        edges, cdf = (np.stack(column) for column in zip(*margins, strict=True))
        return cls(edges, cdf, tril)

    def sample(self, rng: np.random.Generator, n: int) -> np.ndarray:
        """(n, d)"""
        z = rng.normal(size=(n, len(self.tril))) @ self.tril.T
        columns = zip(ndtr(z).T, self.cdf, self.edges, strict=True)
        return np.column_stack([np.interp(v, cdf, edges) for v, cdf, edges in columns])

    def log_prob(self, u: np.ndarray) -> np.ndarray:
        """(n,) in nats; −inf outside of the margins' ranges."""
        z, log_f = np.empty(u.shape), np.zeros(len(u))
        for i, (edges, cdf) in enumerate(zip(self.edges, self.cdf, strict=True)):
            inside = (u[:, i] > edges[0]) & (u[:, i] < edges[-1])
            b = np.clip(np.searchsorted(edges, u[:, i]) - 1, 0, len(edges) - 2)
            density = np.diff(cdf)[b] / np.diff(edges)[b]
            log_f += np.where(inside, np.log(density), -np.inf)
            v = np.interp(u[:, i], edges, cdf)
            z[:, i] = ndtri(np.clip(v, 1e-12, 1 - 1e-12))
        white = np.linalg.solve(self.tril, z.T)
        log_c = (z.T**2 - white**2).sum(axis=0) / 2 - np.log(np.diag(self.tril)).sum()
        return log_f + log_c


def _margin(x: np.ndarray, bins: int, spread: float) -> tuple[np.ndarray, np.ndarray]:
    """Edges and CDF (B + 5,): bins of equal mass in the middle, wide ones with only the
    evenly `spread` mass outside."""
    inner = np.quantile(x, np.linspace(0, 1, bins + 1))
    length = inner[-1] - inner[0]
    # Ties would make bins without width.
    inner = np.maximum.accumulate(inner + np.arange(bins + 1) * 1e-12 * max(length, 1e-300))
    outer = length * np.array([1.0, 0.2])
    edges = np.concatenate([inner[0] - outer, inner, inner[-1] + outer[::-1]])
    mass = np.diff(np.concatenate([np.zeros(2), np.linspace(0, 1, bins + 1), np.ones(2)]))
    mass = (1 - spread) * mass + spread * np.diff(edges) / (edges[-1] - edges[0])
    cdf = np.concatenate([[0.0], np.cumsum(mass)])
    return edges, cdf / cdf[-1]
