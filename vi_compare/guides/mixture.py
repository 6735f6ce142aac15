"""Mixture of Gaussians with full covariances, over the flat unconstrained vector."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpyro
import numpyro.distributions as dist
from jax import Array
from numpyro.distributions import constraints
from numpyro.infer.autoguide import AutoContinuous
from numpyro.infer.initialization import init_to_uniform

from vi_compare.errors import InputError


class AutoGaussianMixture(AutoContinuous):
    """A guide that is a mixture of `num_components` Gaussians, each with full covariance.

    Works wherever an ``AutoContinuous`` does. A mixture is not reparameterised, so its
    gradient needs a loss that knows: use ``vi_compare.ReverseKL()`` or
    ``numpyro.infer.TraceGraph_ELBO()``. ``Trace_ELBO`` leaves the weights where they
    started, without a word. ::

        guide = AutoGaussianMixture(model, num_components=2)
        svi = SVI(model, guide, optax.adam(0.01), loss=ReverseKL())

    Parameters in the trace: ``auto_logits`` (K,), ``auto_locs`` (K, d),
    ``auto_scale_trils`` (K, d, d).

    Args:
        model: a NumPyro model with continuous latent sites.
        num_components: K, at least 1.
        init_scale: standard deviation of every component at the start, in units of u;
            the locations start at the initial point plus a standard normal each.

    Raises:
        ValueError: when `num_components` or `init_scale` is not positive.
    """

    scale_tril_constraint = constraints.scaled_unit_lower_cholesky

    def __init__(
        self, model, num_components, *, prefix="auto", init_loc_fn=init_to_uniform, init_scale=0.5
    ):
        if num_components < 1:
            raise ValueError(f"num_components must be at least 1, got {num_components}")
        if init_scale <= 0:
            raise ValueError(f"init_scale must be positive, got {init_scale}")
        self.num_components = num_components
        self._init_scale = init_scale
        super().__init__(model, prefix=prefix, init_loc_fn=init_loc_fn)

    def _get_posterior(self):
        k, d = self.num_components, self.latent_dim
        start = lambda key: self._init_latent + jax.random.normal(key, (k, d))
        tril = jnp.broadcast_to(self._init_scale * jnp.identity(d), (k, d, d))
        return self._mixture(
            {
                self._name("logits"): numpyro.param(self._name("logits"), jnp.zeros(k)),
                self._name("locs"): numpyro.param(self._name("locs"), start),
                self._name("scale_trils"): numpyro.param(
                    self._name("scale_trils"), tril, constraint=self.scale_tril_constraint
                ),
            }
        )

    def _name(self, what: str) -> str:
        return f"{self.prefix}_{what}"

    def _mixture(self, params: dict[str, Array]) -> dist.MixtureSameFamily:
        log_weights, parts = self.components(params)
        return dist.MixtureSameFamily(dist.CategoricalLogits(log_weights), parts)

    def get_posterior(self, params):
        """The mixture over the flat unconstrained vector."""
        return self._mixture(params)

    def components(self, params: dict[str, Array]) -> tuple[Array, dist.MultivariateNormal]:
        """Log weights (K,) and the K Gaussians, batch shape (K,), event shape (d,)."""
        locs, trils = params[self._name("locs")], params[self._name("scale_trils")]
        log_weights = jax.nn.log_softmax(params[self._name("logits")])
        return log_weights, dist.MultivariateNormal(locs, scale_tril=trils)

    def to_mixture(self, params: dict[str, Array]) -> tuple[Array, Array, Array]:
        """Weights (K,), means (K, d) and covariances (K, d, d) over u."""
        log_weights, parts = self.components(params)
        return jnp.exp(log_weights), parts.loc, parts.covariance_matrix

    def from_mixture(self, weights: Array, means: Array, covariances: Array) -> dict[str, Array]:
        """The parameters that make the guide this mixture; the inverse of `to_mixture`."""
        return {
            self._name("logits"): jnp.log(weights),
            self._name("locs"): means,
            self._name("scale_trils"): jnp.linalg.cholesky(covariances),
        }

    def spread(self, key: Array, params: dict[str, Array], points: Array) -> dict[str, Array]:
        """Start parameters with one component at each of K points (K, d) drawn from `points`."""
        rows = jax.random.choice(key, points.shape[0], (self.num_components,), replace=False)
        return params | {self._name("locs"): points[rows]}

    def median(self, params):
        return self._unpack_and_constrain(self._quantile(params, 0.5), params)

    def quantiles(self, params, quantiles):
        latent = jax.vmap(lambda level: self._quantile(params, level))(jnp.asarray(quantiles))
        return self._unpack_and_constrain(latent, params)

    def _quantile(self, params: dict[str, Array], level: Array | float) -> Array:
        """Marginal quantiles (d,), by bisection on the mixture's marginal CDFs."""
        weights, means, covariances = self.to_mixture(params)
        scales = jnp.sqrt(jnp.diagonal(covariances, axis1=-2, axis2=-1))
        cdf = lambda u: weights @ dist.Normal(means, scales).cdf(u)
        # 40 standard deviations hold every level that a float can hold.
        low, high = (means - 40 * scales).min(0), (means + 40 * scales).max(0)

        def halve(_, bounds):
            low, high = bounds
            middle = (low + high) / 2
            below = cdf(middle) < level
            return jnp.where(below, middle, low), jnp.where(below, high, middle)

        low, high = jax.lax.fori_loop(0, 100, halve, (low, high))
        return (low + high) / 2


def build(model, components: int = 2) -> AutoGaussianMixture:
    """Mixture of Gaussians, full covariances: mixture:2 is two of them."""
    if components < 1:
        raise InputError(f"mixture:{components} has no component; give a positive number")
    return AutoGaussianMixture(model, components)
