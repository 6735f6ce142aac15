"""Data sets that a model makes, and the model with such data in place of its own.

Data are changed at observed sites, not at the model's arguments: what stands before ``obs=`` is
replaced while the model runs. So any model will do, of whatever its sites are computed; plates and
masks are its own. A model that computes a later site of the *argument* (``Normal(phi * y[:-1])``)
keeps it as a covariate, both where data are drawn and where they are fitted, which is one model all
the same; one that uses what ``numpyro.sample`` returned has it drawn step by step.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from numpyro import handlers
from numpyro.infer.util import compute_log_probs, potential_energy
from numpyro.primitives import Messenger

from vi_compare.errors import InputError, first_line
from vi_compare.target import Target, is_improper
from vi_compare.target.observing import Unobserved, is_data, is_factor

# {observed site: value}
Data = Mapping[str, Array]


@dataclass(frozen=True, eq=False, kw_only=True)
class Replicate(Target):
    """The posterior given other data, over the same u; lives inside one trace, as the data may
    be traced.

    Attributes:
        original: the target that the data stand in.
        data: {observed site: value}.
        beside: given the observed data as well, p(u | y, y_rep), for posterior SBC
            (Säilynoja et al. 2025); else p(u | y_rep).
    """

    original: Target
    data: Data = field(default_factory=dict)
    beside: bool = False

    @classmethod
    def of(cls, original: Target, data: Data, beside: bool) -> Replicate:
        return cls(
            original.model, original.args, original.kwargs, original.key, original.functions,
            original=original, data=data, beside=beside,
        )  # fmt: skip

    @property
    def _structure(self):
        return self.original._structure

    def log_density(self, u: Array) -> Array:
        """log p(u, y_rep), or log p(u, y, y_rep) beside the observed data; u (d,) -> ()."""
        own, model = self.original, _With(self.original.seeded, self.data)
        if not self.beside:
            return -potential_energy(model, own.args, dict(own.kwargs), own.unravel(u))
        values = own.constrain(u)
        log_probs, trace = compute_log_probs(model, own.args, dict(own.kwargs), values)
        again = sum(log_probs[name] for name, site in trace.items() if is_data(site))
        return own.log_density(u) + again


class Simulated(NamedTuple):
    """{latent site: value}, and {observed site: value} drawn given them."""

    values: dict[str, Array]
    data: dict[str, Array]


def simulated(target: Target, key: Array, values: Mapping[str, Array] | None = None) -> Simulated:
    """One run of the model in which every observed site is drawn anew.

    Args:
        values: {latent site: value}; drawn from their prior where there are none.
    """
    model = Unobserved(target.unseeded)
    if values is not None:
        model = handlers.substitute(model, data=dict(values))
    trace = handlers.trace(handlers.seed(model, key)).get_trace(*target.args, **target.kwargs)
    was_observed = lambda site: site["type"] == "sample" and "was_observed" in site["infer"]
    data = {name: site["value"] for name, site in trace.items() if was_observed(site)}
    return Simulated({site.name: trace[site.name]["value"] for site in target.sites}, data)


def refuse_what_makes_no_data(target: Target, prior: bool) -> None:
    """Refuse a model that is no distribution of data, or with `prior` none of its latent values.

    Raises:
        InputError: with the site and the remedy.
    """
    trace = _traced(target)
    sites = [site for site in trace.values() if site["type"] == "sample"]
    for site in sites:
        _refuse_factor(site)
    if not any(map(is_data, sites)):
        raise InputError(
            "nothing is observed in this model, so there are no data to simulate; its reference is "
            "exact, and `vi-compare run` compares with it"
        )
    for site in sites:
        _refuse_scale(site)
        if prior and not site["is_observed"] and is_improper(site["fn"]):
            raise InputError(
                f"site {site['name']!r} has an improper prior, which nothing can be drawn from; "
                f"give --around posterior, or a proper prior"
            )
    _try(target, prior)


def _refuse_factor(site: Mapping[str, Any]) -> None:
    if is_factor(site):
        raise InputError(
            f"the model has the factor {site['name']!r}, which is no distribution that data could "
            f"be drawn from; write it as numpyro.sample(..., obs=...), with a distribution"
        )


def _refuse_scale(site: Mapping[str, Any]) -> None:
    scale = site["scale"]
    # A scale of an array is whatever it is: only a plain 1 says that nothing is scaled.
    if scale is not None and not (isinstance(scale, int | float) and scale == 1):
        raise InputError(
            f"site {site['name']!r} is scaled (numpyro.handlers.scale), so that its density is "
            f"that of no data that could be drawn; leave the scale out"
        )


def _try(target: Target, prior: bool) -> None:
    """Draw once, traced only: some distributions cannot be drawn from."""

    def draw(key: Array) -> Simulated:
        known = None if prior else target.constrain(jnp.zeros(target.dim))
        return simulated(target, key, known)

    try:
        jax.eval_shape(draw, jax.random.key(0))
    except Exception as error:  # whatever a user's distribution raises
        said = first_line(error) or type(error).__name__
        raise InputError(
            f"data of this model cannot be drawn ({said}); give its distributions a `sample` method"
        ) from error


def _traced(target: Target) -> dict[str, dict]:
    found: list[dict] = []

    def visit(u: Array) -> int:
        found.append(target.trace(target.constrain(u)))
        return 0

    jax.eval_shape(visit, jax.ShapeDtypeStruct((target.dim,), jnp.result_type(float)))
    return found[0]


class _With(Messenger):
    """Runs a model with other values at its observed sites."""

    def __init__(self, model, data: Data):
        super().__init__(model)
        self.data = data

    def process_message(self, msg: dict) -> None:
        if is_data(msg) and msg["name"] in self.data:
            msg["value"] = self.data[msg["name"]]
