"""What a model observes, and at draws of its latent values the likelihood and replicates of it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from jax import Array
from numpyro.distributions import constraints

from vi_compare.batches import in_batches
from vi_compare.errors import first_line
from vi_compare.evidence import Draws
from vi_compare.target import Target, dims_of, plates
from vi_compare.target.observing import innermost, is_data, is_factor


class Outcomes(StrEnum):
    """What an observation can be, which decides how predictions of it are checked."""

    CONTINUOUS = "continuous"
    COUNT = "count"
    BINARY = "binary"
    CATEGORY = "category"
    VECTOR = "vector"


@dataclass(frozen=True, eq=False)
class Observed:
    """The observations of one site that are looked at.

    Attributes:
        name: of the site.
        outcomes: what they can be.
        values: (n,), or (n, ...) of vectors.
        rows: (n,) their places among all of the site's, one after another.
        of: how many there are that count: those that no mask leaves out.
        shape, dims: of all of the site's, without the axes of one observation.
        drawn: why none can be drawn again; "" where they can.
        judged: why they cannot be held against what is predicted; "" where they can.
    """

    name: str
    outcomes: Outcomes
    values: np.ndarray
    rows: np.ndarray
    of: int
    shape: tuple[int, ...]
    dims: tuple[str, ...]
    drawn: str = ""
    judged: str = ""


def observed(
    target: Target, draws: Draws, key: Array, most: int
) -> tuple[list[Observed], dict[str, str]]:
    """The sites that a model observes, and {site: why it is left out}.

    Args:
        draws: two or more of the target or of a fit, at which the model is run.
        most: observations of a site that are looked at; of more, so many by chance.
    """
    first, other = (target.trace(_at(target, draws, i)) for i in (0, len(draws) - 1))
    found: list[Observed] = []
    left_out: dict[str, str] = {}
    # Of rows that are censored, say: those that are not are then a choice, and not as predicted.
    factor = any(map(is_factor, first.values()))
    judged = "the model has a factor, which may speak of the same observations" if factor else ""
    for name, site in first.items():
        if not is_data(site):
            continue
        if why := _unusable(site, other[name]):
            left_out[name] = why
            continue
        one = _observed(name, site, jax.random.fold_in(key, len(found)), most)
        found.append(replace(one, judged=judged))
    return found, left_out


@dataclass(frozen=True, eq=False)
class Pointwise:
    """What draws say of the observations of one site.

    Attributes:
        log_lik: (draws, n) nats.
        replicates: (draws, n), or (draws, n, ...) of vectors; None where none can be drawn.
    """

    log_lik: np.ndarray
    replicates: np.ndarray | None


def pointwise(
    target: Target, sites: list[Observed], draws: Draws, key: Array
) -> dict[str, Pointwise]:
    """{site: log likelihood, and a replicate, of every observation at every draw}."""
    rows = {site.name: jnp.asarray(site.rows) for site in sites}
    again = tuple(site.name for site in sites if not site.drawn)
    values = {site.name: draws.values[site.name] for site in target.sites}
    found = in_batches(_pointwise, target, again, rows, key)((values, np.arange(len(draws))))
    return {
        name: Pointwise(np.asarray(log_lik), None if made is None else np.asarray(made))
        for name, (log_lik, made) in found.items()
    }


@partial(jax.jit, static_argnums=(0, 1))
def _pointwise(
    target: Target, again: tuple[str, ...], rows: Mapping[str, Array], key: Array, xs: Any
) -> dict:
    def one(x):
        values, number = x
        trace, own = target.trace(values), jax.random.fold_in(key, number)
        return {
            # A key of its own for every site: they are independent given the latent values.
            name: _of_site(trace[name], at, jax.random.fold_in(own, i), name in again)
            for i, (name, at) in enumerate(rows.items())
        }

    return target.over_points(one)(xs)


@partial(jax.jit, static_argnums=0)
def mixture(
    target: Target, rows: Mapping[str, Array], values: Mapping[str, Array], data: Mapping
) -> dict[str, Array]:
    """{site: log predictive density (r, n)} of data, averaged over draws.

    Args:
        rows: {site: (n,) places of the observations}.
        values: {site: (draws, ...)} of the latent sites.
        data: {site: (r, n, ...)} what might be observed there.
    """

    def add(sums, one):
        trace = target.trace(one)
        said = {name: _log_prob(trace[name], at, data[name]) for name, at in rows.items()}
        return jax.tree.map(jnp.logaddexp, sums, said), None

    lead = {name: jnp.full(data[name].shape[:2], -jnp.inf) for name in rows}
    # One draw after another: all of them side by side would be too large to hold.
    sums, _ = jax.lax.scan(add, lead, dict(values))
    n = len(next(iter(values.values())))
    return jax.tree.map(lambda total: total - jnp.log(n), sums)


def _log_prob(site: Mapping[str, Any], rows: Array, data: Array) -> Array:
    """(r, n) log density of what might be observed at some places."""
    fn = site["fn"]
    shape = jnp.shape(_log_lik(site))
    whole = jnp.broadcast_to(site["value"], (*shape, *fn.event_shape))
    flat = whole.reshape(-1, *fn.event_shape)
    put = lambda own: flat.astype(own.dtype).at[rows].set(own).reshape(whole.shape)
    return jax.vmap(lambda own: fn.log_prob(put(own)).reshape(-1)[rows])(data)


def _of_site(site: Mapping[str, Any], rows: Array, key: Array, again: bool):
    fn, log_lik = site["fn"], _log_lik(site)
    if not again:
        return log_lik.reshape(-1)[rows], None
    made = fn.expand(jnp.shape(log_lik)).sample(key)
    return log_lik.reshape(-1)[rows], made.reshape(-1, *fn.event_shape)[rows]


def _at(target: Target, draws: Draws, i: int) -> dict[str, Array]:
    return {site.name: jnp.asarray(draws.values[site.name][i]) for site in target.sites}


def _log_lik(site: Mapping[str, Any]) -> Array:
    """Of every observation, without the weight that a scale handler gives it."""
    return site["fn"].log_prob(site["value"], *_intermediates(site))


def _intermediates(site: Mapping[str, Any]) -> tuple:
    found = site.get("intermediates")
    return (found,) if found else ()


def _unusable(site: Mapping[str, Any], other: Mapping[str, Any]) -> str:
    """Why a site's observations cannot be looked at one by one; "" where they can."""
    if not np.array_equal(np.asarray(site["value"]), np.asarray(other["value"]), equal_nan=True):
        return "what it observes depends on latent values"
    try:
        shape = jnp.shape(_log_lik(site))
    except (NotImplementedError, TypeError, ValueError) as error:
        return f"its likelihood cannot be computed ({first_line(error)})"
    if math.prod(shape) < 2 or len(_counted(site, shape)) < 2:
        return "it is a single observation, of which none can be left out"
    return ""


def _observed(name: str, site: Mapping[str, Any], key: Array, most: int) -> Observed:
    fn, shape = site["fn"], jnp.shape(_log_lik(site))
    counted = _counted(site, shape)
    rows = counted
    if len(counted) > most:
        rows = np.sort(np.asarray(jax.random.choice(key, counted, (most,), replace=False)))
    values = np.broadcast_to(np.asarray(site["value"]), (*shape, *fn.event_shape))
    values = values.reshape(-1, *fn.event_shape)[rows]
    known = (len(counted), shape, dims_of(name, shape, plates(site)), _drawn(fn, shape))
    return Observed(name, _outcomes(fn), values, rows, *known)


def _counted(site: Mapping[str, Any], shape: tuple[int, ...]) -> np.ndarray:
    """Places of the observations that no mask leaves out."""
    kept, fn = np.ones(shape, bool), site["fn"]
    while isinstance(fn, WRAPPERS):
        if isinstance(fn, dist.MaskedDistribution):
            kept &= np.broadcast_to(np.asarray(fn._mask, bool), shape)
        fn = fn.base_dist
    return np.flatnonzero(kept)


# Of what is drawn of them nobody knows where it would have been cut off.
CENSORED = (
    dist.LeftCensoredDistribution,
    dist.RightCensoredDistribution,
    dist.IntervalCensoredDistribution,
)


def _drawn(fn: dist.Distribution, shape: tuple[int, ...]) -> str:
    """Why nothing can be drawn of a distribution; "" where it can."""
    if isinstance(_unwrapped(fn), CENSORED):
        return "its observations are censored, and nobody knows when others would have been"
    try:
        jax.eval_shape(lambda key: fn.expand(shape).sample(key), jax.random.key(0))
    except Exception as error:  # whatever somebody's distribution raises
        return f"{type(innermost(fn)).__name__} cannot be drawn from ({first_line(error)})"
    return ""


# What leaves the batch, and what is drawn, as they are.
WRAPPERS = (dist.MaskedDistribution, dist.ExpandedDistribution, dist.Independent)


def _unwrapped(fn: dist.Distribution) -> dist.Distribution:
    while isinstance(fn, WRAPPERS):
        fn = fn.base_dist
    return fn


def _outcomes(fn: dist.Distribution) -> Outcomes:
    support = fn.support
    while isinstance(support, constraints.independent):
        support = support.base_constraint
    if fn.event_shape:
        return Outcomes.VECTOR
    if support is constraints.boolean:
        return Outcomes.BINARY
    if isinstance(innermost(fn), dist.CategoricalProbs | dist.CategoricalLogits):
        return Outcomes.CATEGORY
    return Outcomes.COUNT if support.is_discrete else Outcomes.CONTINUOUS
