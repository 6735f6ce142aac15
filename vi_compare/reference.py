"""Reference: draws that stand for the truth, where they came from, whether to believe them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from statistics import NormalDist

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from vi_compare.errors import InputError
from vi_compare.evidence import Draws
from vi_compare.randomness import key_for
from vi_compare.target import Target, batched

# A good sampler is refused once in a million runs.
FALSE_ALARM = 1e-6


@dataclass(frozen=True)
class SteinCheck:
    """Largest Stein z-score, and what a good sample stays below.

    Attributes:
        z: largest |z| over all identities and coordinates.
        limit: two-sided normal quantile at `FALSE_ALARM`, for that many tests.
        tests: how many identities × coordinates.
        identity, coordinate: where the largest was.
    """

    z: float
    limit: float
    tests: int
    identity: str
    coordinate: int

    @property
    def passed(self) -> bool:
        return self.z <= self.limit


@dataclass(frozen=True)
class Reference:
    """Disjoint sets of draws of the target, shared by every fit.

    Attributes:
        source: "exact".
        train: for forward KL.
        test: for metrics.
        floor: a second test set, for noise floors.
        check: the Stein check of `test`.
    """

    source: str
    train: Draws
    test: Draws
    floor: Draws
    check: SteinCheck


def exact_reference(target: Target, exact: Callable, seed: int, n: int) -> Reference:
    """Draws of a script's ``exact(key, n)``, each part from a key of its own.

    Raises:
        InputError: when what it returns does not fit the model's sites, is not finite,
            or is not a sample of the model.
    """
    draw = lambda part: _draws(target, exact, key_for(seed, f"reference/{part}"), n)
    test = draw("test")
    check = stein_check(target, test.u)
    if not check.passed:
        raise InputError(
            f"exact(key, n) does not draw from the model: {check.identity} over coordinate "
            f"{check.coordinate} of u is off by {check.z:.3g} standard errors (a good sample stays "
            f"below {check.limit:.1f}); compare the distributions and parameters in exact with "
            f"those in model"
        )
    return Reference("exact", draw("train"), test, draw("floor"), check)


def _draws(target: Target, exact: Callable, key: Array, n: int) -> Draws:
    values = exact(key, n)
    _fit_sites(target, values, n)
    draws = target.draws({site.name: jnp.asarray(values[site.name]) for site in target.sites})
    ok = np.isfinite(np.asarray(draws.log_p)) & np.isfinite(np.asarray(draws.u)).all(axis=1)
    if not ok.all():
        bad = int((~ok).sum())
        raise InputError(
            f"exact(key, n) returns {bad} of {n} draws to which the model gives no density; "
            f"check the supports and parameters of its sites"
        )
    return draws


def _fit_sites(target: Target, values: object, n: int) -> None:
    """Refuse values that are not {site: (n, ...)} of the target's sites."""
    wanted = {site.name: (n, *site.shape) for site in target.sites}
    if not isinstance(values, dict):
        kind = type(values).__name__
        raise InputError(f"exact(key, n) returns a {kind}; return a dict {{site: (n, ...)}}")
    if missing := sorted(wanted.keys() - values.keys()):
        raise InputError(
            f"exact(key, n) returns no {', '.join(map(repr, missing))}; "
            f"the model's sites are {', '.join(map(repr, wanted))}"
        )
    if extra := sorted(values.keys() - wanted.keys()):
        raise InputError(
            f"exact(key, n) returns {', '.join(map(repr, extra))}, which the model does not have; "
            f"its sites are {', '.join(map(repr, wanted))}"
        )
    for name, shape in wanted.items():
        if jnp.shape(values[name]) != shape:
            raise InputError(
                f"exact(key, n) returns {name!r} of shape {jnp.shape(values[name])} for n = {n}; "
                f"it must be {shape}"
            )
        if not np.isfinite(np.asarray(values[name])).all():
            raise InputError(f"exact(key, n) returns values of {name!r} that are NaN or infinite")


def stein_check(target: Target, u: Array) -> SteinCheck:
    """Test E_p[f′(u_i) + f(u_i) ∂_i log p] = 0 for several f and every coordinate.

    f = 1 and f = u_i see a shift and a scale (Gorham and Mackey 2015); sine and cosine of
    the standardised coordinate see other shapes. No f sees wrong weights of modes that
    are far apart.
    """
    scores = {name: np.asarray(values) for name, values in _stein(target, u).items()}
    z = {
        name: np.abs(x.mean(axis=0)) / (x.std(axis=0, ddof=1) / np.sqrt(len(x)) + 1e-300)
        for name, x in scores.items()
    }
    tests = sum(v.size for v in z.values())
    limit = NormalDist().inv_cdf(1 - FALSE_ALARM / (2 * tests))
    name = max(z, key=lambda k: np.nan_to_num(z[k], nan=np.inf).max())
    worst = int(np.argmax(np.nan_to_num(z[name], nan=np.inf)))
    return SteinCheck(float(z[name][worst]), limit, tests, name, worst)


@partial(jax.jit, static_argnums=0)
def _stein(target: Target, u: Array) -> dict[str, Array]:
    slope = batched(jax.grad(target.log_density))(u)
    mean, sd = u.mean(axis=0), u.std(axis=0)
    c = (u - mean) / sd
    out = {"E[∂ log p] = 0": slope, "E[u ∂ log p] = −1": c * slope * sd + 1}
    for k in (1, 2):
        out[f"E[(sin {k}c)′ + sin {k}c ∂ log p] = 0"] = (
            k * jnp.cos(k * c) / sd + jnp.sin(k * c) * slope
        )
        out[f"E[(cos {k}c)′ + cos {k}c ∂ log p] = 0"] = (
            -k * jnp.sin(k * c) / sd + jnp.cos(k * c) * slope
        )
    return out
