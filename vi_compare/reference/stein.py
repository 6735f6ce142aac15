"""Stein's identities: do draws belong to a density?"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from statistics import NormalDist

import jax
import numpy as np
from jax import Array

from vi_compare.batches import in_batches
from vi_compare.evidence import Draws
from vi_compare.target import Target


@dataclass(frozen=True)
class SteinCheck:
    """Largest Stein z-score, and what a good sample stays below.

    Attributes:
        z: largest |z| over all identities and coordinates.
        limit: two-sided normal quantile at the level of the check, corrected for `tests`.
        tests: number of identities × coordinates.
        identity, coordinate: of the largest.
    """

    z: float
    limit: float
    tests: int
    identity: str
    coordinate: int

    @property
    def passed(self) -> bool:
        return self.z <= self.limit

    @property
    def words(self) -> str:
        """What failed, in words."""
        return (
            f"{self.identity} over coordinate {self.coordinate} of u is off by {self.z:.3g} "
            f"standard errors (a good sample stays below {self.limit:.1f})"
        )


def stein_check(target: Target, draws: Draws, level: float = 1e-6) -> SteinCheck:
    """Test E_p[f′(u_i) + f(u_i) ∂_i log p] = 0 for several f and every coordinate.

    f = 1 and f = u_i see a shift and a scale (Gorham and Mackey 2015); sine and cosine of
    the standardised coordinate see other shapes. No f sees wrong weights of modes that
    are far apart.

    Args:
        level: probability with which a good sample fails, Bonferroni-corrected: a good
            sampler is refused once in a million runs.
    """
    z = {name: _z(draws, x) for name, x in _scores(target, draws.u).items()}
    tests = sum(v.size for v in z.values())
    limit = NormalDist().inv_cdf(1 - level / (2 * tests))
    name = max(z, key=lambda k: np.nan_to_num(z[k], nan=np.inf).max())
    worst = int(np.argmax(np.nan_to_num(z[name], nan=np.inf)))
    return SteinCheck(float(z[name][worst]), limit, tests, name, worst)


def _z(draws: Draws, x: np.ndarray) -> np.ndarray:
    """|mean| ÷ its standard error, per column of x (n, d)."""
    n = np.array([draws.effective(column) for column in x.T]) if draws.chains else len(x)
    return np.abs(x.mean(axis=0)) / (x.std(axis=0, ddof=1) / np.sqrt(n) + 1e-300)


def _scores(target: Target, u: Array) -> dict[str, np.ndarray]:
    """{identity: (n, d)}, each of mean zero under p."""
    return _stein(np.asarray(u), np.asarray(in_batches(_gradient, target)(u)))


@partial(jax.jit, static_argnums=0)
def _gradient(target: Target, u: Array) -> Array:
    return target.over_points(jax.grad(target.log_density))(u)


def _stein(u: np.ndarray, gradient: np.ndarray) -> dict[str, np.ndarray]:
    mean, sd = u.mean(axis=0), u.std(axis=0)
    c = (u - mean) / sd
    out = {"E[∂ log p] = 0": gradient, "E[u ∂ log p] = −1": c * gradient * sd + 1}
    for k in (1, 2):
        out[f"E[(sin {k}c)′ + sin {k}c ∂ log p] = 0"] = (
            k * np.cos(k * c) / sd + np.sin(k * c) * gradient
        )
        out[f"E[(cos {k}c)′ + cos {k}c ∂ log p] = 0"] = (
            -k * np.sin(k * c) / sd + np.cos(k * c) * gradient
        )
    return out
