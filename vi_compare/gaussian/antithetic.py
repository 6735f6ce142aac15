"""Standard normal draws in antithetic pairs, e and −e: plain, or spread evenly (Sobol)."""

from __future__ import annotations

import numpy as np
from scipy import linalg, special
from scipy.stats import qmc


def pairs(rng: np.random.Generator, n: int, dim: int) -> np.ndarray:
    """n independent antithetic draws (n, dim), the second half the mirror of the first."""
    half = rng.standard_normal((n // 2, dim))
    return np.concatenate([half, -half])


def even_pairs(rng: np.random.Generator, n: int, dim: int) -> np.ndarray:
    """n scrambled-Sobol antithetic draws (n, dim) of mean 0 and, where n > 4 dim, of
    covariance exactly I; else of variances 1. n is a power of two.

    With a covariance other than I, the best Gaussian on fixed draws would differ from a
    Gaussian target by just that.
    """
    uniform = qmc.Sobol(dim, scramble=True, rng=rng).random(n // 2)
    half = special.ndtri(np.clip(uniform, 1e-12, 1 - 1e-12))
    if n // 2 >= 2 * dim:
        factor = linalg.cholesky(half.T @ half / len(half), lower=True)
        half = linalg.solve_triangular(factor, half.T, lower=True).T
    else:
        half = half / np.sqrt((half**2).mean(axis=0))
    return np.concatenate([half, -half])
