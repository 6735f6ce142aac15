"""Flows around a Gaussian, with both directions: what `coupling` and `spline` share."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
from jax import Array
from jax.scipy.linalg import solve_triangular
from jax.scipy.stats import norm
from numpyro.distributions import constraints
from numpyro.infer.autoguide import AutoContinuous
from numpyro.infer.initialization import init_to_uniform

from vi_compare.errors import InputError
from vi_compare.families import Covariances, FlatFamily, register


@dataclass(frozen=True)
class FlowShape:
    """How large a flow is.

    Attributes:
        layers: number of layers, each of which moves every coordinate once; 0: as many as it
            takes for every coordinate to be moved given every other, and `fewest` at least.
        width: units of each hidden layer of its networks.
        depth: number of their hidden layers.
        fewest: see `layers`.
    """

    layers: int = 0
    width: int = 64
    depth: int = 2
    fewest: int = 3


class FlowAroundAGaussian(dist.Distribution):
    """u = loc + tril v, v = bijection(z), z standard normal (d,).

    Args:
        bijection: FlowJAX's, over (d,).
        loc: (d,).
        tril: (d, d), lower triangular with a positive diagonal.
    """

    support = constraints.real_vector
    arg_constraints: ClassVar = {
        "loc": constraints.real_vector,
        "tril": constraints.lower_cholesky,
    }
    reparametrized_params: ClassVar = ["loc", "tril"]
    pytree_data_fields = ("bijection", "loc", "tril")

    def __init__(self, bijection: Any, loc: Array, tril: Array):
        self.bijection, self.loc, self.tril = bijection, loc, tril
        super().__init__((), loc.shape)

    def sample(self, key, sample_shape=()):
        z = jax.random.normal(key, (*sample_shape, *self.event_shape), self.loc.dtype)
        forth = jnp.vectorize(self.bijection.transform, signature="(d)->(d)")
        return self.loc + forth(z) @ self.tril.T

    def log_prob(self, value, intermediates=None):
        return jnp.vectorize(self._log_prob, signature="(d)->()")(value)

    def _log_prob(self, u: Array) -> Array:
        v = solve_triangular(self.tril, u - self.loc, lower=True)
        z, log_det = self.bijection.inverse_and_log_det(v)
        return norm.logpdf(z).sum() + log_det - jnp.log(jnp.diag(self.tril)).sum()


class AutoFlow(AutoContinuous):
    """A guide u = loc + scale_tril v, where a flow takes a standard normal to v (d,).

    It begins as the Gaussian N(loc, scale_tril scale_trilᵀ) exactly, and draws and log q are
    exact: both ways through the flow are in closed form.

    Parameters in the trace: ``auto_loc`` (d,), ``auto_scale_tril`` (d, d), and those of the
    flow's networks in one list, ``auto_flow$params``.

    Args:
        model: a NumPyro model with continuous latent sites, two dimensions at least.
        layers: number of layers, each of which moves every coordinate once; 0: as many as it
            takes for every coordinate to be moved given every other, and three at least.
        width: units of each of two hidden layers of a network.
        init_scale: scale of the Gaussian at the start, in units of u.

    Raises:
        ValueError: when `layers` is negative, or `width` or `init_scale` is not positive.
        InputError: where FlowJAX is not installed; when called, in one dimension.
    """

    scale_tril_constraint = constraints.scaled_unit_lower_cholesky

    def __init__(
        self, model, layers=0, width=64, *, prefix="auto", init_loc_fn=init_to_uniform,
        init_scale=0.1,
    ):  # fmt: skip
        if layers < 0:
            raise ValueError(f"layers must be positive, or 0 for enough of them, got {layers}")
        if width < 1 or init_scale <= 0:
            raise ValueError(
                f"width and init_scale must be positive, got {width} and {init_scale:g}"
            )
        _require_flowjax(self.label)
        self.shape, self.init_scale = FlowShape(layers, width), init_scale
        super().__init__(model, prefix=prefix, init_loc_fn=init_loc_fn)

    @property
    @abstractmethod
    def label(self) -> str:
        """Its name in labels."""

    @abstractmethod
    def begun(self, dim: int, shape: FlowShape) -> Any:
        """FlowJAX's bijection over v (dim,) as it begins: the identity."""

    def _get_posterior(self):
        d = self.latent_dim
        if d == 1:
            raise InputError(
                f"{self.label}: one dimension has no other to be moved given; "
                f"take mixture:K or student:K instead"
            )
        begun = {
            "loc": numpyro.param(self._name("loc"), self._init_latent),
            "scale_tril": numpyro.param(
                self._name("scale_tril"),
                self.init_scale * jnp.eye(d),
                constraint=self.scale_tril_constraint,
            ),
            "flow$params": numpyro.param(self._name("flow$params"), self.fresh),
        }
        return self.get_posterior({self._name(what): value for what, value in begun.items()})

    def get_posterior(self, params) -> FlowAroundAGaussian:
        """q over the flat unconstrained vector."""
        made = (params[self._name(what)] for what in ("flow$params", "loc", "scale_tril"))
        leaves, loc, tril = made
        return FlowAroundAGaussian(self._template.filled(leaves), loc, tril)

    def fresh(self, key: Array) -> list[Array]:
        """The networks' parameters begun anew: the flow is the identity."""
        return self._template.fresh(key)

    def _name(self, what: str) -> str:
        return f"{self.prefix}_{what}"

    def _setup_prototype(self, *args, **kwargs):
        super()._setup_prototype(*args, **kwargs)
        # FlowJAX cannot make one inside compiled code, where the guide may be called next.
        if self.latent_dim > 1:
            self._template = Template.of(self.begun(self.latent_dim, self.shape))


@dataclass(frozen=True)
class Template:
    """A bijection without its parameters.

    Attributes:
        shapes: of the parameters.
        drawn: which of them begin at random, the weights of hidden layers; others at zero.
        structure: how they are nested.
        still: all that is no parameter.
    """

    shapes: list[tuple[int, ...]]
    drawn: list[bool]
    structure: Any
    still: Any

    @classmethod
    def of(cls, bijection: Any) -> Template:
        import equinox as eqx

        moving, still = eqx.partition(bijection, eqx.is_inexact_array)
        leaves, structure = jax.tree.flatten(moving)
        drawn = [bool(np.any(leaf)) for leaf in leaves]
        return cls([leaf.shape for leaf in leaves], drawn, structure, still)

    def fresh(self, key: Array) -> list[Array]:
        """Parameters as they begin: weights within ±1/√inputs where they are random."""
        keys = jax.random.split(key, len(self.shapes))
        begin = lambda key, shape: jax.random.uniform(key, shape, minval=-1.0) * shape[-1] ** 0.5
        return [
            begin(key, shape) if drawn else jnp.zeros(shape)
            for key, shape, drawn in zip(keys, self.shapes, self.drawn, strict=True)
        ]

    def filled(self, leaves: list[Array]) -> Any:
        """The bijection at these parameters."""
        import equinox as eqx

        return eqx.combine(jax.tree.unflatten(self.structure, leaves), self.still)


def _require_flowjax(label: str) -> None:
    """Raises InputError where the extra is not installed."""
    try:
        import flowjax.bijections  # noqa: F401
    except ImportError as error:
        raise InputError(
            f"{label}: a flow needs FlowJAX, which is not installed; "
            f"pip install 'vi-compare[flows]'"
        ) from error


def layers_for(dim: int) -> int:
    """Layers that it takes for every coordinate to be moved given every other."""
    return (dim - 1).bit_length()


def halves(dim: int, number: int) -> np.ndarray:
    """Order (d,) of the coordinates in which a layer of this number parts them in halves, the
    first of which is the larger where they differ. `layers_for` layers in a row part any two.

    Coordinates 2i and 2i + 1 have the whole number i and its complement. These differ for any
    two, and every bit of them parts the coordinates in halves.
    """
    i = np.arange(dim)
    side = (i // 2 >> number % layers_for(dim) & 1) ^ (i % 2)
    return np.argsort(side if side.sum() <= dim // 2 else 1 - side, kind="stable")


@register(AutoFlow)
class FlowFamily(FlatFamily):
    """A Gaussian bent by a flow, which the frame moves as it moves a Gaussian."""

    holds = Covariances.FULL
    can_be_framed = begins_as_its_frame = True

    def in_frame(self, params, target, frame):
        frame = frame.reordered(self.back(target))
        loc, tril = self.name("loc"), self.name("scale_tril")
        moved = {loc: frame.mean + frame.tril @ params[loc], tril: frame.tril @ params[tril]}
        return params | moved

    def as_its_frame(self, params, target):
        loc, tril = self.name("loc"), self.name("scale_tril")
        unit = {loc: jnp.zeros_like(params[loc]), tril: jnp.eye(target.dim)}
        return params | unit

    def spread(self, params, target, key, points):
        """Fresh networks around the first of `points` (m, d)."""
        moved = {
            self.name("loc"): points[0, self.back(target)],
            self.name("flow$params"): self.guide.fresh(key),
        }
        return params | moved
