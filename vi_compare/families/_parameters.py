"""A guide's parameters: as they begin, moved at random, and by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from numpyro import handlers
from numpyro.distributions import biject_to, constraints

from vi_compare.target import Target


def first_parameters(guide: Callable, target: Target, key: Array) -> dict:
    """{name: value} of a guide's parameter sites as they begin."""
    return {name: site["value"] for name, site in _param_sites(guide, target, key).items()}


def shapes(guide: Callable, target: Target) -> dict:
    """{name: shape and type} of a guide's parameter sites, nothing being computed."""
    return jax.eval_shape(partial(first_parameters, guide, target), jax.random.key(0))


def number_of_parameters(guide: Callable, target: Target) -> int:
    """How many numbers a guide's parameters are."""
    return sum(leaf.size for leaf in jax.tree.leaves(shapes(guide, target)))


def moved_parameters(guide: Callable, target: Target, key: Array) -> dict:
    """{name: value} of the parameter sites as they begin, each moved by a standard normal in
    its unconstrained space; those of a network (``numpyro.module``) only begin afresh."""
    fresh_key, move_key = jax.random.split(key)
    sites = _param_sites(guide, target, fresh_key)
    names = sorted(sites)
    keys = dict(zip(names, jax.random.split(move_key, len(names)), strict=True))
    return {name: _moved(sites[name], keys[name]) for name in names}


def impossible(guide: Callable, target: Target, params: Mapping[str, Any]) -> list[str]:
    """Names of the parameter sites whose values in `params` are outside their constraint."""
    found = []
    for name, site in _param_sites(guide, target, jax.random.key(0)).items():
        # A network's parameters are nested, and free.
        if isinstance(params[name], jax.Array) and not jnp.all(_constraint(site)(params[name])):
            found.append(name)
    return found


def _param_sites(guide: Callable, target: Target, key: Array) -> dict[str, dict]:
    with handlers.block(), handlers.trace() as trace, handlers.seed(rng_seed=key):
        guide(*target.args, **target.kwargs)
    return {name: site for name, site in trace.items() if site["type"] == "param"}


def unconstrained(guide: Callable, target: Target, params: Mapping[str, Any]) -> dict[str, Any]:
    """Parameters in their unconstrained space; those of a network are there already."""
    return _mapped(guide, target, params, lambda bijection: bijection.inv)


def constrained(guide: Callable, target: Target, x: Mapping[str, Any]) -> dict[str, Any]:
    """The inverse of `unconstrained`."""
    return _mapped(guide, target, x, lambda bijection: bijection)


def _mapped(guide: Callable, target: Target, params: Mapping[str, Any], way: Callable) -> dict:
    sites: dict[str, dict] = {}
    # Traced only: of the sites nothing but the constraints is looked at.
    jax.eval_shape(lambda: sites.update(_param_sites(guide, target, jax.random.key(0))))
    moved = lambda name, value: way(_bijection(sites[name]))(value)
    return {name: moved(name, v) if _is_array(v) else v for name, v in params.items()}


def _is_array(value: Any) -> bool:
    """Whether a parameter is one array; a network's are nested."""
    return isinstance(value, jax.Array | np.ndarray | float | int)


def _constraint(site: dict) -> Any:
    """What the values of a param site have to meet."""
    return site["kwargs"].get("constraint", constraints.real)


def _bijection(site: dict) -> Any:
    """From the real line to the values that a param site can have."""
    return biject_to(_constraint(site))


def _moved(site: dict, key: Array):
    """The value of a param site, moved at random where it is one array."""
    value = site["value"]
    if not _is_array(value):
        return value
    bijection = _bijection(site)
    x = bijection.inv(value)
    return bijection(x + jax.random.normal(key, jnp.shape(x), jnp.result_type(float)))


def arrays(params: Mapping[str, Any]) -> dict[str, Array]:
    """{name: array} of parameters of which some, a network's, are nested: w.0.1 is ``w[0][1]``."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(dict(params))
    return {jax.tree_util.keystr(path, simple=True, separator="."): leaf for path, leaf in leaves}


def nested(arrays_by_name: Mapping[str, Any], like: Mapping[str, Any]) -> dict[str, Any]:
    """Parameters nested as in `like`; the inverse of `arrays`. Names must be the same."""
    return jax.tree.unflatten(
        jax.tree.structure(dict(like)), [jnp.asarray(arrays_by_name[name]) for name in arrays(like)]
    )
