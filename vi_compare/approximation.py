"""Approximation: one interface over every NumPyro guide.

    sample(key, n)    n fresh draws, with log q
    draw(key)         one u, for use inside compiled code
    log_prob(u)       log q of any point, for one u (d,)
    stopped()         the same q with its parameters cut from the gradient
    strata(key, n)    q as a weighted sum of reparameterised parts

Expectations under a mixture go through `strata`, because a draw of a mixture is not a
differentiable function of its weights: sum_k w_k E_{q_k}[f], each component
reparameterised, the weights differentiated exactly (Morningstar et al. 2021, "Automatic
differentiation variational inference with mixtures"). What a guide has of this is its
family's to say (``families/``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Protocol

import jax
import numpy as np
import numpyro
from jax import Array
from numpyro import handlers
from numpyro.infer.autoguide import AutoContinuous, AutoGuide, AutoNormal

from vi_compare.batches import in_batches
from vi_compare.errors import InputError
from vi_compare.evidence import Draws
from vi_compare.families import Family, FlatFamily, GaussianMixture, family
from vi_compare.scores import values_and_slopes
from vi_compare.target import Target


class Approximation(Protocol):
    """What a divergence or a metric may ask of q; all densities over u."""

    def sample(self, key: Array, n: int) -> Draws: ...

    def draw(self, key: Array) -> Array: ...

    def log_prob(self, u: Array) -> Array: ...

    def stopped(self) -> Approximation: ...

    def strata(self, key: Array, n: int) -> tuple[Array, Array]:
        """Return log weights (K,) and n draws of each part, u (K, n, d)."""
        ...


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
        return family(self.guide)

    def log_prob(self, u: Array) -> Array:
        """log q(u) in nats; u (d,) -> ()."""
        return self.family.log_prob(self.params, self.target, u)

    def draw(self, key: Array) -> Array:
        """One draw (d,) of any guide, reparameterised or not: use no gradient of it."""
        return self.family.draw(self.params, self.target, key)

    def stopped(self) -> GuideApproximation:
        params = jax.lax.stop_gradient(self.params)
        return GuideApproximation(self.guide, params, self.target)

    def strata(self, key: Array, n: int) -> tuple[Array, Array]:
        return self.family.strata(self.params, self.target, key, n)

    def mixture(self) -> GaussianMixture | None:
        """The Gaussian mixture that q is, or None where it is none."""
        return _mixture(self)

    def sample(self, key: Array, n: int) -> Draws:
        """n draws of q with their values, log p and log q."""
        return self.at(self.target.complete(self.points(key, n)))

    def points(self, key: Array, n: int) -> Array:
        """The same n draws as u (n, d), at no evaluation of log p."""
        return in_batches(_draw, self, key)(np.arange(n))

    def at(self, draws: Draws) -> Draws:
        """The same draws with log q of this approximation beside them."""
        return replace(draws, log_q=in_batches(_log_prob, self)(draws.u))


@dataclass(frozen=True)
class DrawsApproximation:
    """Draws made elsewhere, as an `Approximation` whose density nobody knows.

    Attributes:
        draws: as from ``Target.draws(values)``; log_q is None.
        target: whose unconstrained vector they are over.
        reason: why log q is not known, in words; what needs it repeats this.
    """

    draws: Draws
    target: Target
    reason: str = "these draws were made elsewhere, so log q is not known"

    # There is no guide and nothing that it could be set to.
    guide = None

    @property
    def params(self) -> dict[str, Any]:
        return {}

    def sample(self, key: Array, n: int) -> Draws:
        """At most n of the draws: every so many-th, so that chains keep their order."""
        few = self.draws.every(-(-len(self.draws) // n))
        return replace(few, log_q=None, reason=self.reason)

    def at(self, draws: Draws) -> Draws:
        """The same draws; log q stays unknown, with the reason."""
        return replace(draws, log_q=None, reason=self.reason)

    def log_prob(self, u: Array) -> Array:
        raise InputError(self.reason)

    def draw(self, key: Array) -> Array:
        raise InputError(self.reason)

    def stopped(self) -> DrawsApproximation:
        return self

    def strata(self, key: Array, n: int) -> tuple[Array, Array]:
        raise InputError(self.reason)

    def mixture(self) -> None:
        """Nobody knows of which distribution they are."""


@jax.jit
def _draw(q: GuideApproximation, key: Array, numbers: Array) -> Array:
    """The draws of these numbers (n,): the i-th is the same in whatever batch it is made."""
    return jax.vmap(lambda number: q.draw(jax.random.fold_in(key, number)))(numbers)


@jax.jit
def _log_prob(q: GuideApproximation, u: Array) -> Array:
    return jax.vmap(q.log_prob)(u)


@jax.jit
def _mixture(q: GuideApproximation) -> GaussianMixture | None:
    return q.family.to_mixture(q.params, q.target)


def set_up(guide: Callable, target: Target, key: Array) -> None:
    """Let an AutoGuide see its model once, outside any compiled code.

    An AutoGuide keeps the prototype of its first call; made under ``vmap`` or ``jit``
    that prototype would hold dead tracers.
    """
    if is_set_up(guide):
        return

    def call(guide):
        with handlers.seed(rng_seed=key):
            guide(*target.args, **target.kwargs)

    if isinstance(guide, AutoContinuous | AutoNormal):
        # The first call makes the prototype and then draws. Outside compiled code every
        # operation would be compiled alone, so the draw, which may refuse, is only traced.
        with unweighed(guide):
            call(guide._setup_prototype)
        first = _first_point(guide, target)
        if not all(np.isfinite(a).all() for a in values_and_slopes(target, first[None])):
            call(guide._setup_prototype)  # NumPyro looks for another point, or says why
        # What the guide's own distributions are given is known to be right, and to check that would
        # be as many operations again.
        with numpyro.validation_enabled(is_validate=False):
            jax.eval_shape(lambda: call(guide))
    else:
        call(guide)


def _first_point(guide: AutoContinuous | AutoNormal, target: Target) -> np.ndarray:
    """Where the guide begins, u (d,)."""
    if isinstance(guide, AutoNormal):
        return np.asarray(target.ravel(guide._init_locs))
    return np.asarray(guide._init_latent)[FlatFamily(guide).order(target)]


def is_set_up(guide: Callable | None) -> bool:
    """Whether a guide can be used inside compiled code: one written by hand always can."""
    return not isinstance(guide, AutoGuide) or guide.prototype_trace is not None


@contextmanager
def unweighed(guide: AutoGuide) -> Iterator[None]:
    """Within, the guide's model has a log density of 0 from its second run on.

    An AutoGuide makes its prototype by ``initialize_model``, which also evaluates log p
    and its gradient at the initial point, for MCMC: outside compiled code, every operation of
    the model compiled alone. One compiled evaluation afterwards says the same.
    """
    model = guide.model
    guide.model = weightless = _Weightless(model)
    try:
        yield
    finally:
        guide.model, weightless.over = model, True


class _Weightless:
    """The model while its guide is set up, and the model itself afterwards: the guide keeps
    functions of it. The first run is the prototype, which keeps the model's distributions."""

    def __init__(self, model: Callable):
        self.model, self.runs, self.over = model, 0, False

    def __call__(self, *args, **kwargs):
        self.runs += 1
        if self.over or self.runs == 1:
            return self.model(*args, **kwargs)
        with handlers.mask(mask=False):
            return self.model(*args, **kwargs)
