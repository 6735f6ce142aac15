"""Approximation: one interface over every NumPyro guide.

    sample(key, n)    n fresh draws, with log q
    log_prob(u)       log q of any point, for one u (d,)
    stopped()         the same q with its parameters cut from the gradient
    strata(key, n)    q as a weighted sum of reparameterised parts

Expectations under a mixture go through `strata`, because a draw of a mixture is not a
differentiable function of its weights: sum_k w_k E_{q_k}[f], each component
reparameterised, the weights differentiated exactly (Morningstar et al. 2021, "Automatic
differentiation variational inference with mixtures"). A guide offers its parts by a
method ``components(params)``; a hand-written guide gets them by an effect handler.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial, singledispatch
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from jax import Array
from jax.errors import TracerBoolConversionError
from numpyro import handlers
from numpyro.distributions import biject_to
from numpyro.infer.autoguide import AutoContinuous, AutoDelta
from numpyro.primitives import Messenger

from vi_compare.errors import InputError
from vi_compare.evidence import Draws
from vi_compare.target import Target, batched


class Approximation(Protocol):
    """What a divergence or a metric may ask of q; all densities over u."""

    def sample(self, key: Array, n: int) -> Draws: ...

    def log_prob(self, u: Array) -> Array: ...

    def stopped(self) -> Approximation: ...

    def strata(self, key: Array, n: int) -> tuple[Array, Array]:
        """Return log weights (K,) and n draws of each part, u (K, n, d)."""
        ...


class Family(Protocol):
    """q over u for given parameters: what each kind of guide has to supply."""

    def draw(self, key: Array) -> Array: ...

    def log_prob(self, u: Array) -> Array: ...

    def strata(self, key: Array, n: int) -> tuple[Array, Array]: ...


@partial(jax.tree_util.register_dataclass, data_fields=["params"], meta_fields=["guide", "target"])
@dataclass(frozen=True)
class GuideApproximation:
    """Any NumPyro guide at given parameters, as an `Approximation` of `target`.

    A pytree whose leaves are the parameters, so that one compiled function serves every
    fit of the same guide.

    Attributes:
        guide: an ``AutoGuide`` that has been set up (called once), or a function.
        params: {name: constrained value}, as ``SVI.get_params`` returns them.
        target: the target, for the order and the bijections of its sites.

    Raises:
        InputError: at use, for a guide whose log q cannot be known; the reason is said.
    """

    guide: Callable
    params: dict[str, Any]
    target: Target

    @property
    def family(self) -> Family:
        return family(self.guide, self.params, self.target)

    def log_prob(self, u: Array) -> Array:
        """log q(u) in nats; u (d,) -> ()."""
        return self.family.log_prob(u)

    def stopped(self) -> GuideApproximation:
        params = jax.lax.stop_gradient(self.params)
        return GuideApproximation(self.guide, params, self.target)

    def strata(self, key: Array, n: int) -> tuple[Array, Array]:
        return self.family.strata(key, n)

    def sample(self, key: Array, n: int) -> Draws:
        """n draws of q with their values, log p and log q."""
        return _sample(self, key, n)

    def at(self, draws: Draws) -> Draws:
        """The same draws with log q of this approximation beside them."""
        return Draws(draws.u, draws.values, draws.log_p, _log_prob(self, draws.u))


@partial(jax.jit, static_argnums=2)
def _sample(q: GuideApproximation, key: Array, n: int) -> Draws:
    def one(key):
        u = q.family.draw(key)
        return Draws(u, q.target.constrain(u), q.target.log_density(u), q.log_prob(u))

    return batched(one)(jax.random.split(key, n))


@jax.jit
def _log_prob(q: GuideApproximation, u: Array) -> Array:
    return batched(q.log_prob)(u)


def set_up(guide: Callable, target: Target, key: Array) -> None:
    """Let an AutoGuide see its model once, outside any compiled code.

    An AutoGuide keeps the prototype of its first call; made under ``vmap`` or ``jit``
    that prototype would hold dead tracers.
    """
    if getattr(guide, "prototype_trace", 0) is None:
        with handlers.seed(rng_seed=key):
            guide(*target.args, **target.kwargs)


# --- the kinds of guide ------------------------------------------------------------


@singledispatch
def family(guide: Callable, params: dict, target: Target) -> Family:
    """q over u. Registered per kind of guide; the fallback runs the guide's own trace."""
    return TraceFamily(guide, params, target)


@family.register
def _(guide: AutoContinuous, params: dict, target: Target) -> Family:
    return FlatFamily(guide, params, target)


@family.register
def _(guide: AutoDelta, params: dict, target: Target) -> Family:
    raise InputError(
        "AutoDelta is a point, not a distribution: it has no density to compare; "
        "AutoLaplaceApproximation puts a Gaussian around the same point"
    )


@dataclass(frozen=True)
class FlatFamily:
    """An ``AutoContinuous`` guide: a distribution on its own flat vector.

    Its vector holds the same unconstrained values as u, perhaps in another order.
    """

    guide: AutoContinuous
    params: dict
    target: Target

    @property
    def posterior(self) -> dist.Distribution:
        posterior = self.guide.get_posterior(self.params)
        return posterior if posterior.event_dim else posterior.to_event(1)

    @property
    def order(self) -> np.ndarray:
        return latent_order(self.guide, self.target)

    def draw(self, key: Array) -> Array:
        return self.posterior.sample(key)[self.order]

    def log_prob(self, u: Array) -> Array:
        return self.posterior.log_prob(u[np.argsort(self.order)])

    def strata(self, key: Array, n: int) -> tuple[Array, Array]:
        if hasattr(self.guide, "components"):
            log_weights, parts = self.guide.components(self.params)
        else:
            log_weights, parts = jnp.zeros(1), self.posterior.expand((1,))
        _refuse_unless_reparameterised(parts, type(self.guide).__name__)
        return log_weights, jnp.swapaxes(parts.rsample(key, (n,)), 0, 1)[..., self.order]


def latent_order(guide: AutoContinuous, target: Target) -> np.ndarray:
    """(d,) whole numbers with u = latent[order], latent the guide's own flat vector."""
    unpacked = guide._unpack_latent.unpack_fn(np.arange(target.dim))
    return np.concatenate([np.ravel(unpacked[site.name]) for site in target.sites]).astype(int)


@dataclass(frozen=True)
class TraceFamily:
    """A guide known only by its trace: ``AutoNormal`` and hand-written functions.

    Sites are moved to u one by one: where the guide's distribution is a base pushed
    through the very bijection of the site's support, the base itself is used, which is
    exact at any u; elsewhere log q(z) + log|dz/du|.
    """

    guide: Callable
    params: dict
    target: Target

    def draw(self, key: Array) -> Array:
        return self._run(_Draw(), key)[0]

    def log_prob(self, u: Array) -> Array:
        return self._run(_Score(self.target.unravel(u)), jax.random.key(0))[1]

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
        return self.target.ravel(handler.u), jnp.asarray(sum(handler.log_q.values()))


class _OnUnconstrained(Messenger):
    """Runs a guide and keeps, per latent site, its unconstrained value and log q over it."""

    def __init__(self):
        super().__init__(fn=None)
        self.names, self.u, self.log_q, self.others = set(), {}, {}, []

    def __enter__(self):
        self.u, self.log_q, self.others = {}, {}, []
        return super().__enter__()

    def process_message(self, msg: dict) -> None:
        if msg["type"] != "sample" or msg["is_observed"]:
            return
        if msg["name"] not in self.names:
            self.others.append(msg["name"])
            return
        fn, bijection = msg["fn"], _bijection(msg["fn"])
        base = _without_bijection(fn, bijection)
        unconstrained = self.value(msg, fn, base, bijection)
        value = bijection(unconstrained)
        if base is not None:
            log_q = base.log_prob(unconstrained)
        else:
            log_q = fn.log_prob(value) + _log_jacobian(fn, bijection, unconstrained, value)
        msg["value"] = value
        self.u[msg["name"]] = unconstrained
        self.log_q[msg["name"]] = jnp.sum(log_q)

    def value(self, msg, fn, base, bijection) -> Array:
        raise NotImplementedError


class _Score(_OnUnconstrained):
    """Puts given unconstrained values at the sites."""

    def __init__(self, unconstrained: dict[str, Array]):
        super().__init__()
        self.given = unconstrained

    def value(self, msg, fn, base, bijection) -> Array:
        return self.given[msg["name"]]


class _Draw(_OnUnconstrained):
    """Draws every site; `mixture` names the site whose component is fixed to `component`."""

    def __init__(self, strict: bool = False, mixture: str | None = None, component: Any = None):
        super().__init__()
        self.strict, self.mixture, self.component = strict, mixture, component

    def value(self, msg, fn, base, bijection) -> Array:
        key = msg["kwargs"]["rng_key"]
        if msg["name"] == self.mixture:
            for part in _components(fn):
                _refuse_unless_reparameterised(part, f"site {msg['name']!r} of the guide")
            parts = fn.component_sample(key)
            return bijection.inv(jnp.take(parts, self.component, axis=fn.mixture_dim))
        if self.strict:
            _refuse_unless_reparameterised(fn, f"site {msg['name']!r} of the guide")
        return base.sample(key) if base is not None else bijection.inv(fn.sample(key))


class _Find(_Draw):
    """Finds the sites that are mixtures."""

    def __init__(self):
        super().__init__()
        self.mixtures: dict[str, tuple[tuple[int, ...], int]] = {}

    def value(self, msg, fn, base, bijection) -> Array:
        if _is_mixture(fn):
            self.mixtures[msg["name"]] = (fn.batch_shape, fn.mixture_size)
        return super().value(msg, fn, base, bijection)

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

    def value(self, msg, fn, base, bijection) -> Array:
        if msg["name"] == self.mixture_name:
            mixing = fn.mixing_distribution
            self.log_weights = jax.nn.log_softmax(mixing.logits)
        return super().value(msg, fn, base, bijection)


def _bijection(fn: dist.Distribution):
    # Bounds written as numbers stay numbers, so that they can be compared while traced.
    with jax.ensure_compile_time_eval():
        return biject_to(fn.support)


def _is_mixture(fn: dist.Distribution) -> bool:
    return hasattr(fn, "component_sample") and hasattr(fn, "mixing_distribution")


def _components(fn: dist.Distribution) -> list[dist.Distribution]:
    """What a mixture mixes: one batched distribution, or several."""
    several = getattr(fn, "component_distributions", None)
    return [fn.component_distribution] if several is None else list(several)


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
    parts = getattr(transform, "parts", None)
    return [transform] if parts is None else [one for part in parts for one in _parts(part)]


def _same(a, b) -> bool:
    """Whether two transforms are surely the same (traced values are not compared)."""
    a, b = (getattr(t, "base_transform", t) for t in (a, b))
    try:
        with jax.ensure_compile_time_eval():
            return type(a) is type(b) and bool(a.eq(b))
    except TracerBoolConversionError:
        return False


def _log_jacobian(fn: dist.Distribution, bijection, unconstrained: Array, value: Array) -> Array:
    log_det = bijection.log_abs_det_jacobian(unconstrained, value)
    extra = jnp.ndim(log_det) - len(fn.batch_shape)
    return jnp.sum(log_det, axis=tuple(range(-extra, 0))) if extra > 0 else log_det


def _refuse_unless_reparameterised(fn: dist.Distribution, whose: str) -> None:
    if not fn.has_rsample:
        raise InputError(
            f"{whose} draws from {type(fn).__name__}, which is not reparameterised, so its "
            f"gradient would be silently wrong; fit it with numpyro.infer.TraceGraph_ELBO"
        )


def _refuse_other_sites(handler: _OnUnconstrained) -> None:
    if handler.others:
        raise InputError(
            f"the guide also draws {', '.join(map(repr, handler.others))}, which the model does "
            f"not have, so only a joint density is known and log q is not; "
            f"give it only the model's sites"
        )
    if missing := handler.names - handler.u.keys():
        raise InputError(
            f"the guide never draws {', '.join(map(repr, sorted(missing)))}, which the model has; "
            f"add a numpyro.sample of the same name"
        )
