"""What is known of particular guides: as a Gaussian mixture, and where to start them.

A guide of this package says both by methods (``to_mixture``, ``from_mixture``,
``spread``); NumPyro's own are registered here. All in the order of u.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import singledispatch
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from numpyro.infer.autoguide import (
    AutoContinuous,
    AutoDiagonalNormal,
    AutoLowRankMultivariateNormal,
    AutoMultivariateNormal,
    AutoNormal,
)

from vi_compare.approximation import latent_order
from vi_compare.target import Target


class GaussianMixture(NamedTuple):
    """weights (K,), means (K, d) and covariances (K, d, d) over u."""

    weights: Array
    means: Array
    covariances: Array


# --- q as a Gaussian mixture -----------------------------------------------------


@singledispatch
def to_mixture(guide: Callable, params: dict, target: Target) -> GaussianMixture | None:
    """The Gaussian mixture that the guide is at `params`, or None where it is none."""
    return None


@to_mixture.register
def _(guide: AutoContinuous, params, target):
    if not hasattr(guide, "to_mixture"):
        return None
    weights, means, covariances = guide.to_mixture(params)
    order = latent_order(guide, target)
    return GaussianMixture(weights, means[:, order], covariances[:, order][:, :, order])


@to_mixture.register(AutoDiagonalNormal)
@to_mixture.register(AutoMultivariateNormal)
@to_mixture.register(AutoLowRankMultivariateNormal)
def _(guide, params, target):
    posterior, order = guide.get_posterior(params), latent_order(guide, target)
    spread = getattr(posterior, "covariance_matrix", None)
    covariance = jnp.diag(posterior.variance) if spread is None else spread
    return _single(posterior.mean[order], covariance[order][:, order])


@to_mixture.register
def _(guide: AutoNormal, params, target):
    loc, scale = (
        target.ravel({s.name: params[f"{s.name}_{guide.prefix}_{what}"] for s in target.sites})
        for what in ("loc", "scale")
    )
    return _single(loc, jnp.diag(scale**2))


def _single(mean: Array, covariance: Array) -> GaussianMixture:
    return GaussianMixture(jnp.ones(1), mean[None], covariance[None])


# --- a Gaussian mixture as the guide's parameters ----------------------------------


@singledispatch
def from_mixture(guide: Callable, mixture: GaussianMixture, target: Target) -> dict | None:
    """The parameters of the forward-KL projection of `mixture` on the guide's family.

    None where the family has no closed-form projection. A single Gaussian takes the
    mean and covariance (or its diagonal) of the only component.
    """
    return None


@from_mixture.register
def _(guide: AutoContinuous, mixture, target):
    if not hasattr(guide, "from_mixture"):
        return None
    back = np.argsort(latent_order(guide, target))
    weights, means, covariances = mixture
    return guide.from_mixture(weights, means[:, back], covariances[:, back][:, :, back])


@from_mixture.register
def _(guide: AutoMultivariateNormal, mixture, target):
    back = np.argsort(latent_order(guide, target))
    tril = jnp.linalg.cholesky(mixture.covariances[0][back][:, back])
    return {f"{guide.prefix}_loc": mixture.means[0][back], f"{guide.prefix}_scale_tril": tril}


@from_mixture.register
def _(guide: AutoDiagonalNormal, mixture, target):
    back = np.argsort(latent_order(guide, target))
    scale = jnp.sqrt(jnp.diag(mixture.covariances[0]))[back]
    return {f"{guide.prefix}_loc": mixture.means[0][back], f"{guide.prefix}_scale": scale}


@from_mixture.register
def _(guide: AutoNormal, mixture, target):
    loc = target.unravel(mixture.means[0])
    scale = target.unravel(jnp.sqrt(jnp.diag(mixture.covariances[0])))
    return {f"{name}_{guide.prefix}_loc": value for name, value in loc.items()} | {
        f"{name}_{guide.prefix}_scale": value for name, value in scale.items()
    }


def has_projection(guide: Callable) -> bool:
    """Whether `from_mixture` gives parameters: not for low rank, whose best factor has no
    closed form, nor for flows."""
    known = (AutoMultivariateNormal, AutoDiagonalNormal, AutoNormal)
    return hasattr(guide, "from_mixture") or isinstance(guide, known)


def num_components(guide: Callable) -> int:
    """K of a mixture guide, 1 of any other."""
    return getattr(guide, "num_components", 1)


# --- where to start ----------------------------------------------------------------


@singledispatch
def spread(guide: Callable, params: dict, points: Array, key: Array, target: Target) -> dict:
    """Start parameters for one restart, placed by random `points` (m, d), m ≥ components.

    Without this every restart of an AutoGuide starts at the same place: it keeps the
    prototype of its first call. A hand-written guide has its real parameters moved by a
    standard normal each.
    """
    names = sorted(params)
    keys = dict(zip(names, jax.random.split(key, len(names)), strict=True))
    move = lambda name, p: p + jax.random.normal(keys[name], jnp.shape(p), jnp.result_type(p))
    return {name: move(name, params[name]) for name in names}


@spread.register
def _(guide: AutoContinuous, params, points, key, target):
    latent = points[:, np.argsort(latent_order(guide, target))]
    if hasattr(guide, "spread"):
        return guide.spread(key, params, latent)
    loc = f"{guide.prefix}_loc"
    return params | {loc: latent[0]} if loc in params else params


@spread.register
def _(guide: AutoNormal, params, points, key, target):
    names = {name: f"{name}_{guide.prefix}_loc" for name in target.unravel(points[0])}
    return params | {names[name]: value for name, value in target.unravel(points[0]).items()}
