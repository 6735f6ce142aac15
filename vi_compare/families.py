"""What is known of particular guides: as a Gaussian mixture, and where to start them.

A guide of this package says both by methods (``to_mixture``, ``from_mixture``,
``spread``); NumPyro's own are registered here. All in the order of u.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial, singledispatch
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from numpyro import handlers
from numpyro.distributions import biject_to, constraints
from numpyro.infer.autoguide import (
    AutoContinuous,
    AutoDiagonalNormal,
    AutoLaplaceApproximation,
    AutoLowRankMultivariateNormal,
    AutoMultivariateNormal,
    AutoNormal,
)

from vi_compare.approximation import DrawsApproximation, GuideApproximation, latent_order
from vi_compare.gaussian.frames import Frame
from vi_compare.gaussian.gaussians import FullRank, lower
from vi_compare.gaussian.low_rank import LowRank, project
from vi_compare.target import Target


class GaussianMixture(NamedTuple):
    """weights (K,), means (K, d) and covariances (K, d, d) over u."""

    weights: Array
    means: Array
    covariances: Array


# --- q as a Gaussian mixture -----------------------------------------------------


@singledispatch
def to_mixture(guide: Callable | None, params: dict, target: Target) -> GaussianMixture | None:
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
@to_mixture.register(AutoLaplaceApproximation)
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


def mixture_of(q: GuideApproximation | DrawsApproximation) -> GaussianMixture | None:
    """`to_mixture` of an approximation, in one compiled program for all fits of its guide."""
    return None if q.guide is None else _mixture_of(q)


@jax.jit
def _mixture_of(q: GuideApproximation) -> GaussianMixture | None:
    return to_mixture(q.guide, q.params, q.target)


def _single(mean: Array, covariance: Array) -> GaussianMixture:
    return GaussianMixture(jnp.ones(1), mean[None], covariance[None])


# --- a Gaussian mixture as the guide's parameters ----------------------------------


@singledispatch
def from_mixture(guide: Callable, mixture: GaussianMixture, target: Target) -> dict | None:
    """The parameters of the forward-KL projection of `mixture` on the guide's family.

    None where the family has no closed-form projection. A single Gaussian takes the
    mean and covariance (or its diagonal) of the only component; a mixture of diagonal
    Gaussians takes every diagonal, which is the projection where the components are
    diagonal already, as `is_diagonal` asks of who calls.
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


@singledispatch
def from_gaussian(guide: Callable, mean: np.ndarray, factor: np.ndarray, target: Target) -> dict:
    """The parameters of a Gaussian guide for a mean (d,) and a covariance F Fᵀ, F (d, d).

    From the factor itself, because a covariance loses half of the digits that its factor has.
    Mean-field guides take the diagonal.
    """
    raise TypeError(f"{type(guide).__name__} is no single Gaussian")


@from_gaussian.register
def _(guide: AutoMultivariateNormal, mean, factor, target):
    back = np.argsort(latent_order(guide, target))
    tril = lower(factor[back])
    params = {f"{guide.prefix}_loc": mean[back], f"{guide.prefix}_scale_tril": tril}
    return jax.tree.map(_as_float, params)


@from_gaussian.register
def _(guide: AutoDiagonalNormal, mean, factor, target):
    back = np.argsort(latent_order(guide, target))
    scale = np.linalg.norm(factor, axis=1)[back]
    return jax.tree.map(
        _as_float, {f"{guide.prefix}_loc": mean[back], f"{guide.prefix}_scale": scale}
    )


@from_gaussian.register
def _(guide: AutoNormal, mean, factor, target):
    loc = target.unravel(_as_float(mean))
    scale = target.unravel(_as_float(np.linalg.norm(factor, axis=1)))
    return {f"{name}_{guide.prefix}_loc": value for name, value in loc.items()} | {
        f"{name}_{guide.prefix}_scale": value for name, value in scale.items()
    }


def from_low_rank(guide: AutoLowRankMultivariateNormal, q: LowRank, target: Target) -> dict:
    """The parameters for a Gaussian of low rank."""
    back = _back(guide, target)
    # NumPyro has its factor in units of the scale, and as many columns as it was asked for.
    scaled = np.zeros((len(q.mean), guide.rank or q.factor.shape[1]))
    scaled[:, : q.factor.shape[1]] = q.factor / q.scales[:, None]
    made = {"loc": q.mean[back], "cov_factor": scaled[back], "scale": q.scales[back]}
    return {f"{guide.prefix}_{what}": _as_float(value) for what, value in made.items()}


def _as_float(a: np.ndarray) -> Array:
    return jnp.asarray(a, jnp.result_type(float))


def has_projection(guide: Callable) -> bool:
    """Whether `from_mixture` gives parameters: not for low rank, whose best factor has no
    closed form, nor for flows."""
    known = (AutoMultivariateNormal, AutoDiagonalNormal, AutoNormal)
    return hasattr(guide, "from_mixture") or isinstance(guide, known)


@partial(jax.jit, static_argnums=(0, 2))
def parameters_of(guide: Callable, mixture: GaussianMixture, target: Target) -> dict | None:
    """`from_mixture`, in one compiled program."""
    return from_mixture(guide, mixture, target)


# --- carried from the frame of a Gaussian ------------------------------------------


@singledispatch
def in_frame(guide: Callable, params: dict, frame: Frame, target: Target) -> dict:
    """Parameters that describe q over v, u = mean + tril v -> those that describe it over u.

    Families of independent coordinates cannot be turned, so v is then in units of scales:
    those of each coordinate given the others, or, for a low-rank guide, its own.
    """
    raise TypeError(f"{type(guide).__name__} cannot be carried from one frame to another")


@in_frame.register
def _(guide: AutoContinuous, params, frame, target):
    return guide.in_frame(params, frame.reordered(_back(guide, target)))


@in_frame.register
def _(guide: AutoMultivariateNormal, params, frame, target):
    frame = frame.reordered(_back(guide, target))
    loc, tril = (f"{guide.prefix}_{what}" for what in ("loc", "scale_tril"))
    return {loc: frame.mean + frame.tril @ params[loc], tril: frame.tril @ params[tril]}


@in_frame.register
def _(guide: AutoDiagonalNormal, params, frame, target):
    frame = frame.reordered(_back(guide, target))
    return _scaled(guide, params, frame.mean, frame.conditional_scales)


@in_frame.register
def _(guide: AutoLowRankMultivariateNormal, params, frame, target):
    frame = frame.reordered(_back(guide, target))
    return _scaled(guide, params, frame.mean, frame.scales)


@in_frame.register
def _(guide: AutoNormal, params, frame, target):
    mean, scales = map(target.unravel, (frame.mean, frame.conditional_scales))
    out = {}
    for name in mean:
        loc, scale = (f"{name}_{guide.prefix}_{what}" for what in ("loc", "scale"))
        out[loc] = mean[name] + scales[name] * params[loc]
        out[scale] = scales[name] * params[scale]
    return out


def _back(guide: AutoContinuous, target: Target) -> np.ndarray:
    """(d,) whole numbers with latent = u[back], latent the guide's own flat vector."""
    return np.argsort(latent_order(guide, target))


def _scaled(guide, params: dict, mean: np.ndarray, scales: np.ndarray) -> dict:
    loc, scale = (f"{guide.prefix}_{what}" for what in ("loc", "scale"))
    return params | {loc: mean + scales * params[loc], scale: scales * params[scale]}


def can_be_framed(guide: Callable) -> bool:
    """Whether `in_frame` knows the guide."""
    own = (
        AutoMultivariateNormal,
        AutoDiagonalNormal,
        AutoNormal,
        AutoLowRankMultivariateNormal,
    )
    return hasattr(guide, "in_frame") or isinstance(guide, own)


@singledispatch
def shaped(guide: Callable, params: dict, frame: Frame, target: Target) -> dict:
    """Start parameters over v with as much of the frame's covariance as v leaves out."""
    return params


@shaped.register
def _(guide: AutoLowRankMultivariateNormal, params, frame, target):
    # At a factor of 0 the ELBO is flat in its sign, and every start would be a saddle.
    unit = FullRank(np.zeros_like(frame.mean), frame.tril / frame.scales[:, None])
    rank = params[f"{guide.prefix}_cov_factor"].shape[1]
    near = project(unit, rank, np.random.default_rng(0))
    return params | from_low_rank(guide, near, target)


# --- parameters by name ------------------------------------------------------------


def arrays(params: Mapping[str, Any]) -> dict[str, Array]:
    """{name: array} of parameters of which some, a network's, are nested: w.0.1 is ``w[0][1]``."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(dict(params))
    return {jax.tree_util.keystr(path, simple=True, separator="."): leaf for path, leaf in leaves}


def nested(arrays_by_name: Mapping[str, Any], like: Mapping[str, Any]) -> dict[str, Any]:
    """Parameters nested as in `like`; the inverse of `arrays`. Names must be the same."""
    return jax.tree.unflatten(
        jax.tree.structure(dict(like)), [jnp.asarray(arrays_by_name[name]) for name in arrays(like)]
    )


def is_diagonal(guide: Callable) -> bool:
    """Whether a mixture guide has diagonal covariances only."""
    return getattr(guide, "diagonal", False)


def num_components(guide: Callable) -> int:
    """K of a mixture guide, 1 of any other."""
    return getattr(guide, "num_components", 1)


# --- where to start ----------------------------------------------------------------


@singledispatch
def spread(guide: Callable, params: dict, points: Array, key: Array, target: Target) -> dict:
    """Start parameters for one restart, placed by random `points` (m, d), m ≥ components.

    Without this every restart of an AutoGuide starts at the same place: it keeps the
    prototype of its first call. A hand-written guide is started afresh, and then has its
    parameters moved by a standard normal each, in their unconstrained space; those of
    its networks (``numpyro.module``) are only started afresh.
    """
    fresh_key, move_key = jax.random.split(key)
    sites = _param_sites(guide, target, fresh_key)
    names = sorted(sites)
    keys = dict(zip(names, jax.random.split(move_key, len(names)), strict=True))
    moved = {name: _moved(sites[name], keys[name]) for name in names}
    return params | {name: moved[name] for name in params if name in moved}


def first_parameters(guide: Callable, target: Target, key: Array) -> dict:
    """{name: value} of a guide's parameter sites as they begin."""
    return {name: site["value"] for name, site in _param_sites(guide, target, key).items()}


def _param_sites(guide: Callable, target: Target, key: Array) -> dict[str, dict]:
    with handlers.block(), handlers.trace() as trace, handlers.seed(rng_seed=key):
        guide(*target.args, **target.kwargs)
    return {name: site for name, site in trace.items() if site["type"] == "param"}


def _moved(site: dict, key: Array):
    """The value of a param site, moved at random where it is one array."""
    value = site["value"]
    if not isinstance(value, jax.Array | np.ndarray | float | int):
        return value
    bijection = biject_to(site["kwargs"].get("constraint", constraints.real))
    x = bijection.inv(value)
    return bijection(x + jax.random.normal(key, jnp.shape(x), jnp.result_type(float)))


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
