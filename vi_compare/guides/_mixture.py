"""Base of the guides that are mixtures over the flat unconstrained vector."""

from __future__ import annotations

import copy
from abc import abstractmethod
from typing import Self

import jax
import jax.numpy as jnp
import numpyro
import numpyro.distributions as dist
from jax import Array
from numpyro.infer.autoguide import AutoContinuous
from numpyro.infer.initialization import init_to_uniform

from vi_compare.families import FlatFamily, register


class AutoMixture(AutoContinuous):
    """A guide that is a mixture of `num_components` parts, each reparameterised.

    A subclass declares its parameter sites by ``start_values`` and makes its parts by
    ``parts``; the rest is shared. Sites of every mixture: ``auto_logits`` (K,) and
    ``auto_locs`` (K, d).

    Args:
        model: a NumPyro model with continuous latent sites.
        num_components: K, at least 1; or "auto", where vi_compare's own solvers find it.
        init_scale: scale of every component at the start, in units of u; the locations
            start at the initial point plus a standard normal each.

    Raises:
        ValueError: when `num_components` or `init_scale` is not positive.
    """

    def __init__(
        self, model, num_components, *, prefix="auto", init_loc_fn=init_to_uniform, init_scale=0.5
    ):
        self.grows = num_components == "auto"
        num_components = 1 if self.grows else num_components
        if num_components < 1:
            raise ValueError(f"num_components must be at least 1, got {num_components}")
        if init_scale <= 0:
            raise ValueError(f"init_scale must be positive, got {init_scale}")
        self.num_components = num_components
        self._init_scale = init_scale
        super().__init__(model, prefix=prefix, init_loc_fn=init_loc_fn)

    def with_components(self, number: int) -> Self:
        """The same guide, set up as it is, with so many components."""
        if number == self.num_components and not self.grows:
            return self
        other = copy.copy(self)
        other.num_components, other.grows = number, False
        return other

    @abstractmethod
    def start_values(self) -> dict[str, tuple[Array, dist.constraints.Constraint]]:
        """{what: (start value, constraint)} of the sites beside logits and locs."""

    @abstractmethod
    def parts(self, params: dict[str, Array]) -> dist.Distribution:
        """The K components, batch shape (K,), event shape (d,)."""

    @abstractmethod
    def margins(self, params: dict[str, Array]) -> tuple[Array, Array, Array]:
        """Centres and scales (K, d) of the components' margins, and by how many of those
        scales a margin must be left to hold every level that a float can hold (K, 1)."""

    @abstractmethod
    def margin_cdf(self, params: dict[str, Array], z: Array) -> Array:
        """CDFs (K, d) of the components' margins at z (K, d), in units of `margins`."""

    def _get_posterior(self):
        k, d = self.num_components, self.latent_dim
        start = lambda key: self._init_latent + jax.random.normal(key, (k, d))
        made = {
            self._name("logits"): numpyro.param(self._name("logits"), jnp.zeros(k)),
            self._name("locs"): numpyro.param(self._name("locs"), start),
        }
        for what, (value, constraint) in self.start_values().items():
            name = self._name(what)
            made[name] = numpyro.param(name, value, constraint=constraint)
        return self.get_posterior(made)

    def _name(self, what: str) -> str:
        return f"{self.prefix}_{what}"

    def get_posterior(self, params) -> dist.MixtureSameFamily:
        """The mixture over the flat unconstrained vector."""
        log_weights, parts = self.components(params)
        return dist.MixtureSameFamily(
            dist.CategoricalLogits(log_weights, validate_args=False), parts, validate_args=False
        )

    def components(self, params: dict[str, Array]) -> tuple[Array, dist.Distribution]:
        """Log weights (K,) and the K components, batch shape (K,), event shape (d,)."""
        return jax.nn.log_softmax(params[self._name("logits")]), self.parts(params)

    def median(self, params):
        return self._unpack_and_constrain(self._quantile(params, 0.5), params)

    def quantiles(self, params, quantiles):
        latent = jax.vmap(lambda level: self._quantile(params, level))(jnp.asarray(quantiles))
        return self._unpack_and_constrain(latent, params)

    def _quantile(self, params: dict[str, Array], level: Array | float) -> Array:
        """Marginal quantiles (d,), by bisection on the mixture's marginal CDFs."""
        weights = jax.nn.softmax(params[self._name("logits")])
        centres, scales, reach = self.margins(params)
        cdf = lambda u: weights @ self.margin_cdf(params, (u - centres) / scales)
        low, high = (centres - reach * scales).min(0), (centres + reach * scales).max(0)

        def halve(_, bounds):
            low, high = bounds
            middle = (low + high) / 2
            below = cdf(middle) < level
            return jnp.where(below, middle, low), jnp.where(below, high, middle)

        # At most 1e16 scales wide (a Student t of 1 degree of freedom), then 1e-14 of one.
        low, high = jax.lax.fori_loop(0, 100, halve, (low, high))
        return (low + high) / 2


@register(AutoMixture)
class MixtureFamily(FlatFamily):
    """What every mixture offers: its components as strata, and to be framed."""

    can_be_framed = True

    @property
    def num_components(self):
        return self.guide.num_components

    @property
    def grows(self):
        return self.guide.grows

    def with_components(self, number):
        return self.guide.with_components(number)

    def of_size(self, params):
        return self.with_components(len(params[self.name("logits")]))

    def parts(self, params):
        return self.guide.components(params)

    def spread(self, params, target, key, points):
        """One component at each of K points drawn from `points`, without replacement."""
        latent = points[:, self.back(target)]
        rows = jax.random.choice(key, latent.shape[0], (self.num_components,), replace=False)
        return params | {self.name("locs"): latent[rows]}

    def in_frame(self, params, target, frame):
        """Components without correlations only move and stretch."""
        frame = frame.reordered(self.back(target))
        locs, trils, scales = map(self.name, ("locs", "scale_trils", "scales"))
        if scales in params:
            stretch = frame.conditional_scales
            moved = {locs: frame.mean + stretch * params[locs], scales: stretch * params[scales]}
        else:
            moved = {
                locs: frame.out_of(params[locs]),
                trils: frame.tril @ params[trils],
            }
        return params | moved
