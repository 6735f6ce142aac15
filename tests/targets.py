"""Models that several tests share, and guides with parameters away from their start."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import optax
from numpyro.infer import SVI, Trace_ELBO

from vi_compare import catalogue
from vi_compare.approximation import GuideApproximation, set_up
from vi_compare.target import Target

ROOT = Path(__file__).parent.parent


def script(name: str):
    """A module of models/, by its file."""
    spec = importlib.util.spec_from_file_location(f"models_{name}", ROOT / "models" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def plane(constant=0.0):
    """Two correlated real coordinates; `constant` is added to log p."""
    covariance = jnp.array([[0.6, 0.5], [0.5, 1.2]])
    numpyro.sample("z", dist.MultivariateNormal(jnp.array([0.7, -0.4]), covariance))
    numpyro.factor("constant", constant)


def kitchen_sink():
    """One site of every support, in an order that is not the alphabetical one."""
    numpyro.sample("real", dist.Normal(0.5, 2.0).expand([2]).to_event(1))
    numpyro.sample("positive", dist.Gamma(2.0, 3.0))
    numpyro.sample("lognormal", dist.LogNormal(-0.5, 0.8))
    numpyro.sample("interval", dist.Uniform(-1.0, 3.0))
    numpyro.sample("beta", dist.Beta(2.0, 5.0))
    numpyro.sample("simplex", dist.Dirichlet(jnp.array([1.5, 2.0, 3.0])))
    ordered = dist.TransformedDistribution(
        dist.Normal(0.0, 1.0).expand([3]).to_event(1), dist.transforms.OrderedTransform()
    )
    numpyro.sample("ordered", ordered)
    numpyro.sample("corr", dist.LKJCholesky(3, 1.7))


def away(guide, target, seed: int = 0, size: float = 0.4):
    """(unconstrained, constrain): parameters of `guide`, moved from their start at random."""
    set_up(guide, target, jax.random.key(seed))
    svi = SVI(target.model, guide, optax.identity(), Trace_ELBO())
    state = svi.init(jax.random.key(seed), *target.args, **target.kwargs)
    start = svi.optim.get_params(state.optim_state)
    rng = np.random.default_rng(seed)
    move = lambda leaf: leaf + size * rng.normal(size=jnp.shape(leaf))
    moved = {k: jax.tree.map(move, v) for k, v in sorted(start.items())}
    return moved, svi.constrain_fn


def approximation(name: str, target: Target, seed: int = 0, size: float = 0.4):
    """A catalogue guide on `target` with parameters away from their start."""
    guide = catalogue.load("guides", name).build(target.model)
    moved, constrain = away(guide, target, seed, size)
    return GuideApproximation(guide, constrain(moved), target)
