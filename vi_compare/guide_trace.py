"""Guides known only by their trace, as a distribution over u: ``AutoNormal`` and functions
written by hand, among them those with one latent mixture, which is taken apart here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpyro.distributions as dist
from jax import Array
from jax.errors import TracerBoolConversionError
from numpyro import handlers
from numpyro.primitives import Messenger

from vi_compare.errors import InputError
from vi_compare.target import Target, bijection_of


@dataclass(frozen=True)
class GuideTrace:
    """A guide known only by its trace: ``AutoNormal`` and hand-written functions.

    Sites are moved to u one by one: where the guide's distribution is a base pushed
    through the very bijection that the model has for the site, the base itself is used,
    which is exact at any u; elsewhere log q(z) + log|dz/du|.
    """

    guide: Callable
    params: dict
    target: Target

    def draw(self, key: Array) -> Array:
        return self._run(_Draw(), key)[0]

    def log_prob(self, u: Array) -> Array:
        score = _Score(self.target.unravel(u), self.target.constrain(u))
        return self._run(score, jax.random.key(0))[1]

    def strata(self, key: Array, n: int) -> tuple[Array, Array]:
        found = _Find()
        jax.eval_shape(lambda k: self._run(found, k)[0], key)
        if not found.mixtures:
            keys = jax.random.split(key, n)
            return jnp.zeros(1), jax.vmap(lambda k: self._run(_Draw(strict=True), k)[0])(keys)[None]
        name, size = found.the_one()

        def part(k, key):
            return self._run(_Draw(strict=True, mixture=name, component=k), key)[0]

        keys = jax.random.split(key, (size, n))
        u = jax.vmap(lambda k, row: jax.vmap(partial(part, k))(row))(jnp.arange(size), keys)
        weights = _Weights(name)
        self._run(weights, jax.random.key(0))
        return weights.log_weights, u

    def _run(self, handler: _OnUnconstrained, key: Array) -> tuple[Array, Array]:
        """Run the guide under a handler -> u (d,), log q ()."""
        handler.names = {site.name for site in self.target.sites}
        guide = handlers.substitute(handlers.seed(self.guide, key), data=self.params)
        with handlers.block(), handler:
            guide(*self.target.args, **self.target.kwargs)
        _refuse_other_sites(handler)
        bijections = self.target.transforms({n: v.value for n, v in handler.visits.items()})
        moved = {n: handler.move(n, visit, bijections[n]) for n, visit in handler.visits.items()}
        u = self.target.ravel({n: unconstrained for n, (unconstrained, _) in moved.items()})
        return u, jnp.asarray(sum(log_q for _, log_q in moved.values()))


@dataclass(frozen=True)
class _Visit:
    """One latent site of a guide as it ran.

    Attributes:
        fn: its distribution; base: that of the unconstrained value, or None.
        bijection: of the guide's own support.
        x: unconstrained by that bijection; value: constrained.
    """

    fn: dist.Distribution
    base: dist.Distribution | None
    bijection: Any
    x: Array
    value: Array


class _OnUnconstrained(Messenger):
    """Runs a guide and keeps what happened at each latent site of the target."""

    def __init__(self):
        super().__init__(fn=None)
        self.names: set[str] = set()
        self.visits: dict[str, _Visit] = {}
        self.others: list[str] = []

    def __enter__(self):
        self.visits, self.others = {}, []
        return super().__enter__()

    def process_message(self, msg: dict) -> None:
        if msg["type"] != "sample":
            return
        if msg["is_observed"]:
            raise InputError(
                f"the guide has the observed site {msg['name']!r} (numpyro.factor, or obs=): its "
                f"draws do not follow it, so that its density is not the one it is drawn from; "
                f"write the distribution itself"
            )
        if msg["name"] not in self.names:
            self.others.append(msg["name"])
            return
        bijection = bijection_of(msg["fn"])
        base = _without_bijection(msg["fn"], bijection)
        x, value = self.place(msg, base, bijection)
        msg["value"] = value
        self.visits[msg["name"]] = _Visit(msg["fn"], base, bijection, x, value)

    def place(self, msg: dict, base, bijection) -> tuple[Array, Array]:
        """The site's unconstrained and constrained value."""
        raise NotImplementedError

    def move(self, name: str, visit: _Visit, bijection) -> tuple[Array, Array]:
        """The site's part of u, and log q over it; `bijection` is the model's.

        Where guide and model share the bijection, nothing is inverted: exact at any u.
        """
        same = _same(bijection, visit.bijection)
        u = visit.x if same else self.unconstrained(name, visit, bijection)
        if same and visit.base is not None:
            return u, jnp.sum(visit.base.log_prob(u))
        log_det = bijection.log_abs_det_jacobian(u, visit.value)
        return u, jnp.sum(visit.fn.log_prob(visit.value)) + jnp.sum(log_det)

    def unconstrained(self, name: str, visit: _Visit, bijection) -> Array:
        return bijection.inv(visit.value)


class _Score(_OnUnconstrained):
    """Puts given values at the sites."""

    def __init__(self, unconstrained: dict[str, Array], values: dict[str, Array]):
        super().__init__()
        self.given, self.given_values = unconstrained, values

    def place(self, msg, base, bijection):
        return self.given[msg["name"]], self.given_values[msg["name"]]

    def unconstrained(self, name, visit, bijection):
        return self.given[name]


class _Draw(_OnUnconstrained):
    """Draws every site; `mixture` names the site whose component is fixed to `component`."""

    def __init__(self, strict: bool = False, mixture: str | None = None, component: Any = None):
        super().__init__()
        self.strict, self.mixture, self.component = strict, mixture, component

    def place(self, msg, base, bijection):
        fn, key = msg["fn"], msg["kwargs"]["rng_key"]
        if msg["name"] == self.mixture:
            for part in _components(fn):
                refuse_unless_reparameterised(part, f"site {msg['name']!r} of the guide")
            value = jnp.take(fn.component_sample(key), self.component, axis=fn.mixture_dim)
            return bijection.inv(value), value
        if self.strict:
            refuse_unless_reparameterised(fn, f"site {msg['name']!r} of the guide")
        if base is not None:
            x = base.sample(key)
            return x, bijection(x)
        value = fn.sample(key)
        return bijection.inv(value), value


class _Find(_Draw):
    """Finds the sites that are mixtures."""

    def __init__(self):
        super().__init__()
        self.mixtures: dict[str, tuple[tuple[int, ...], int]] = {}

    def place(self, msg, base, bijection):
        if _is_mixture(fn := msg["fn"]):
            self.mixtures[msg["name"]] = (fn.batch_shape, fn.mixture_size)
        return super().place(msg, base, bijection)

    def the_one(self) -> tuple[str, int]:
        """Name and size of the only mixture site; refuses what cannot be stratified."""
        (name, (batch, size)), *more = self.mixtures.items()
        if more or batch:
            raise InputError(
                f"the guide's mixtures at {', '.join(map(repr, self.mixtures))} cannot be "
                f"stratified (only one mixture site with empty batch shape can); "
                f"fit it with numpyro.infer.TraceGraph_ELBO, or write one joint mixture"
            )
        return name, size


class _Weights(_Draw):
    """Reads the log weights of one mixture site."""

    def __init__(self, mixture: str):
        super().__init__()
        self.mixture_name, self.log_weights = mixture, jnp.zeros(1)

    def place(self, msg, base, bijection):
        if msg["name"] == self.mixture_name:
            self.log_weights = jax.nn.log_softmax(msg["fn"].mixing_distribution.logits)
        return super().place(msg, base, bijection)


def _is_mixture(fn: dist.Distribution) -> bool:
    return isinstance(fn, dist.MixtureSameFamily | dist.MixtureGeneral)


def _components(fn: dist.Distribution) -> list[dist.Distribution]:
    """What a mixture mixes: one batched distribution, or several."""
    if isinstance(fn, dist.MixtureGeneral):
        return list(fn.component_distributions)
    return [fn.component_distribution]


def _without_bijection(fn: dist.Distribution, bijection) -> dist.Distribution | None:
    """The distribution of the unconstrained value, if it can be had without inverting.

    A value on the real line is its own; a ``TransformedDistribution`` that ends with the
    support's bijection is its base pushed through what comes before.
    """
    if _same(bijection, dist.transforms.IdentityTransform()):
        return fn
    if not isinstance(fn, dist.TransformedDistribution):
        return None
    last, every = _parts(bijection), [part for t in fn.transforms for part in _parts(t)]
    head, tail = every[: -len(last)], every[-len(last) :]
    if len(tail) != len(last) or not all(map(_same, tail, last)):
        return None
    return dist.TransformedDistribution(fn.base_dist, head) if head else fn.base_dist


def _parts(transform) -> list:
    """The transforms that a composed one applies, in order."""
    if not isinstance(transform, dist.transforms.ComposeTransform):
        return [transform]
    return [one for part in transform.parts for one in _parts(part)]


def _same(a, b) -> bool:
    """Whether two transforms are surely the same (traced values are not compared)."""
    independent = dist.transforms.IndependentTransform
    a, b = (t.base_transform if isinstance(t, independent) else t for t in (a, b))
    try:
        with jax.ensure_compile_time_eval():
            return type(a) is type(b) and bool(a.eq(b))
    except TracerBoolConversionError:
        return False


def refuse_unless_reparameterised(fn: dist.Distribution, whose: str) -> None:
    if not fn.has_rsample:
        raise InputError(
            f"{whose} draws from {type(fn).__name__}, which is not reparameterised, so its "
            f"gradient would be silently wrong; fit it by reverse-kl:score, whose draws have none"
        )


def _refuse_other_sites(handler: _OnUnconstrained) -> None:
    if handler.others:
        raise InputError(
            f"the guide also draws {', '.join(map(repr, handler.others))}, which the model does "
            f"not have, so only a joint density is known and log q is not; "
            f"give it only the model's sites"
        )
    if missing := handler.names - handler.visits.keys():
        raise InputError(
            f"the guide never draws {', '.join(map(repr, sorted(missing)))}, which the model has; "
            f"add a numpyro.sample of the same name"
        )
