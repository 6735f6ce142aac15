"""What the components of a mixture are: Gaussians, or multivariate Student t.

A component is u = m + F e, with e drawn from a density k(|e|²) of its own degrees of freedom ν. All
that a search by natural gradients has to know of the kind is here: how e is drawn, k and its slope,
the Fisher information, and how ν is to move. The information of a Student t is in closed form: with
s = |e|², β = s/(ν + s) has a beta distribution of ½d and ½ν (Lange, Little and Taylor 1989, "Robust
statistical modeling using the t distribution").
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from scipy import special

from vi_compare.gaussian.antithetic import even_pairs

# (generator, n, d) -> standard normal draws (n, d) in pairs, e and −e
Normals = Callable[[np.random.Generator, int, int], np.ndarray]


@dataclass(frozen=True)
class Base:
    """Draws of which those of every component are made.

    Attributes:
        e: standard normal ones, (n, d).
        levels: (n,) within (0, 1), of the chi-square that a Student t divides by; the same for
            both of a pair. None where nothing divides.
    """

    e: np.ndarray
    levels: np.ndarray | None = None

    @property
    def dim(self) -> int:
        return self.e.shape[1]

    def stretched(self, factors: np.ndarray) -> Base:
        """Each draw so many times as far out, factors (n,)."""
        return replace(self, e=self.e * factors[:, None])


class Factors(NamedTuple):
    """Inverse Fisher information (R, K) of components, in units of a Gaussian's.

    Attributes:
        shape: for the mean, and for the root but for its overall width.
        width: for the overall width.
        tail: for log ν at a width that moves along (`Kernel.moved`), in nats⁻¹; 0 where ν is fixed.
    """

    shape: np.ndarray
    width: np.ndarray
    tail: np.ndarray


class Kernel(ABC):
    """One kind of components."""

    @property
    @abstractmethod
    def start(self) -> float:
        """Degrees of freedom of a component that begins."""

    @abstractmethod
    def base(
        self, rng: np.random.Generator, n: int, dim: int, normals: Normals = even_pairs
    ) -> Base:
        """n draws, a power of two, in pairs, of normals made so."""

    @abstractmethod
    def draws(self, base: Base, dfs: np.ndarray) -> np.ndarray:
        """e of components of dfs (R, K): (n, d) where it is the same for all, or (R, K, n, d)."""

    @abstractmethod
    def profile(
        self, squares: np.ndarray, dfs: np.ndarray, dim: int
    ) -> tuple[np.ndarray, np.ndarray | float]:
        """log k in nats at |e|² (R, n, K), and c in its gradient, −c e."""

    @abstractmethod
    def factors(self, dfs: np.ndarray, dim: int) -> Factors:
        """At degrees of freedom (R, K)."""

    @abstractmethod
    def tail_scores(self, e: np.ndarray, dfs: np.ndarray) -> np.ndarray:
        """Gradient (R, K, n) of log k in log ν, at a width that moves along, at draws e."""

    @abstractmethod
    def limited(self, steps: np.ndarray, dfs: np.ndarray) -> np.ndarray:
        """Steps (R, K) of log ν that are not too far."""

    @abstractmethod
    def moved(self, dfs: np.ndarray, steps: np.ndarray, dim: int) -> tuple[np.ndarray, np.ndarray]:
        """Degrees of freedom after such steps, and the logarithm of the factor by which roots grow
        with them: so that to lowest order neither disturbs what is learned of the other."""


@dataclass(frozen=True)
class GaussianKernel(Kernel):
    """Standard normal: infinitely many degrees of freedom."""

    @property
    def start(self):
        return np.inf

    def base(self, rng, n, dim, normals=even_pairs):
        return Base(normals(rng, n, dim))

    def draws(self, base, dfs):
        return base.e

    def profile(self, squares, dfs, dim):
        return squares / -2 - dim * np.log(2 * np.pi) / 2, 1.0

    def factors(self, dfs, dim):
        one = np.ones(dfs.shape)
        return Factors(one, one, 0 * one)

    def tail_scores(self, e, dfs):
        return np.zeros((*dfs.shape, len(e)))

    def limited(self, steps, dfs):
        return steps

    def moved(self, dfs, steps, dim):
        return dfs, np.zeros(dfs.shape)


@dataclass(frozen=True)
class StudentKernel(Kernel):
    """Multivariate Student t.

    Attributes:
        df: degrees of freedom of every component; None: each learns its own.
        begin: where those that are learned start.
        least, most: within which they stay.
        farthest: step of log ν at most.
    """

    df: float | None = None
    begin: float = 10.0
    least: float = 1.0
    most: float = 1000.0
    farthest: float = 1.0

    @property
    def start(self):
        return self.begin if self.df is None else self.df

    def base(self, rng, n, dim, normals=even_pairs):
        half = (rng.permutation(n // 2) + rng.random(n // 2)) / (n // 2)
        levels = np.clip(half, 1e-12, 1 - 1e-12)
        return Base(normals(rng, n, dim), np.concatenate([levels, levels]))

    def draws(self, base, dfs):
        assert base.levels is not None
        half = base.levels[: len(base.levels) // 2]  # the other half is the same
        shape = dfs[..., None] / 2
        stretch = np.sqrt(shape / special.gammaincinv(shape, half))
        return np.concatenate([stretch, stretch], axis=-1)[..., None] * base.e

    def profile(self, squares, dfs, dim):
        nu = dfs[:, None]
        constant = special.gammaln((nu + dim) / 2) - special.gammaln(nu / 2)
        constant = constant - dim * np.log(nu * np.pi) / 2
        log_k = constant - (nu + dim) / 2 * np.log1p(squares / nu)
        return log_k, (nu + dim) / (nu + squares)

    def factors(self, dfs, dim):
        total = dfs + dim
        shape, width = (total + 2) / total, (total + 2) / dfs
        if self.df is not None:
            return Factors(shape, width, np.zeros(dfs.shape))
        digammas = special.polygamma(1, dfs / 2) - special.polygamma(1, total / 2)
        tail = dfs**2 * digammas / 4 + dim * dfs / 2 / (total + 2) - dim * dfs / total
        tail = tail - 2 * dim * dfs / total**2 / (total + 2)  # that of the width
        return Factors(shape, width, 1 / np.maximum(tail, 1e-12))

    def tail_scores(self, e, dfs):
        nu, dim = dfs[..., None], e.shape[-1]
        squares = (e**2).sum(axis=-1)
        beta, total = squares / (nu + squares), nu + dim
        digammas = special.digamma(total / 2) - special.digamma(nu / 2)
        of_nu = nu / 2 * (digammas - np.log1p(squares / nu)) - dim / 2 + total / 2 * beta
        return of_nu + beta - dim / total

    def limited(self, steps, dfs):
        here = np.log(dfs)
        low = np.maximum(np.log(self.least) - here, -self.farthest)
        high = np.minimum(np.log(self.most) - here, self.farthest)
        return np.clip(steps, low, high) if self.df is None else np.zeros(dfs.shape)

    def moved(self, dfs, steps, dim):
        after = dfs * np.exp(steps)
        width = lambda nu: -np.log1p(dim / nu) / dim
        return after, width(after) - width(dfs)
