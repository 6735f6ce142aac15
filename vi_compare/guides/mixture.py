"""Mixture of Gaussians with full or diagonal covariances, over the flat unconstrained vector."""

from __future__ import annotations

from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from jax import Array
from numpyro.distributions import constraints
from numpyro.infer.initialization import init_to_uniform

from vi_compare.errors import InputError
from vi_compare.families import Covariances, GaussianMixture, register
from vi_compare.gaussian.gaussians import lower
from vi_compare.gaussian.kernels import GaussianKernel
from vi_compare.guides._mixture import AutoMixture, MixtureFamily


class AutoGaussianMixture(AutoMixture):
    """A guide that is a mixture of `num_components` Gaussians.

    Works wherever an ``AutoContinuous`` does. A mixture is not reparameterised, so its
    gradient needs a loss that knows: use ``vi_compare.ReverseKL()`` or
    ``numpyro.infer.TraceGraph_ELBO()``. ``Trace_ELBO`` leaves the weights where they
    started, without a word. ::

        guide = AutoGaussianMixture(model, num_components=2)
        svi = SVI(model, guide, optax.adam(0.01), loss=ReverseKL())

    Parameters in the trace: ``auto_logits`` (K,), ``auto_locs`` (K, d),
    ``auto_scale_trils`` (K, d, d), or ``auto_scales`` (K, d) when `diagonal`.

    Args:
        model: a NumPyro model with continuous latent sites.
        num_components: K, at least 1; or "auto", where vi_compare's own solvers find it.
        diagonal: whether every covariance is diagonal; full otherwise.
        init_scale: standard deviation of every component at the start, in units of u;
            the locations start at the initial point plus a standard normal each.

    Raises:
        ValueError: when `num_components` or `init_scale` is not positive.
    """

    scale_tril_constraint = constraints.scaled_unit_lower_cholesky

    def __init__(
        self,
        model,
        num_components,
        *,
        diagonal=False,
        prefix="auto",
        init_loc_fn=init_to_uniform,
        init_scale=0.5,
    ):
        super().__init__(
            model, num_components, prefix=prefix, init_loc_fn=init_loc_fn, init_scale=init_scale
        )
        self.diagonal = diagonal

    def start_values(self):
        k, d = self.num_components, self.latent_dim
        if self.diagonal:
            return {"scales": (jnp.full((k, d), self._init_scale), constraints.softplus_positive)}
        tril = jnp.broadcast_to(self._init_scale * jnp.identity(d), (k, d, d))
        return {"scale_trils": (tril, self.scale_tril_constraint)}

    def parts(self, params: dict[str, Array]) -> dist.Distribution:
        """The K Gaussians, batch shape (K,), event shape (d,)."""
        locs = params[self._name("locs")]
        if self.diagonal:
            return dist.Normal(locs, params[self._name("scales")], validate_args=False).to_event(1)
        return dist.MultivariateNormal(
            locs, scale_tril=params[self._name("scale_trils")], validate_args=False
        )

    def margins(self, params):
        _, means, covariances = self.to_mixture(params)
        scales = jnp.sqrt(jnp.diagonal(covariances, axis1=-2, axis2=-1))
        # 40 standard deviations hold every level that a float can hold.
        return means, scales, jnp.full((self.num_components, 1), 40.0)

    def margin_cdf(self, params, z):
        return dist.Normal().cdf(z)

    def from_components(
        self, weights: np.ndarray, means: np.ndarray, roots: np.ndarray
    ) -> dict[str, Array]:
        """The parameters for covariances F Fᵀ, F (K, d, d)."""
        scales = (
            {"scales": np.linalg.norm(roots, axis=2)}
            if self.diagonal
            else {"scale_trils": np.stack([lower(root) for root in roots])}
        )
        made = {"logits": np.log(weights), "locs": means} | scales
        return {
            self._name(what): jnp.asarray(value, jnp.result_type(float))
            for what, value in made.items()
        }

    def to_mixture(self, params: dict[str, Array]) -> tuple[Array, Array, Array]:
        """Weights (K,), means (K, d) and covariances (K, d, d) over u."""
        log_weights, parts = self.components(params)
        covariances = (
            jax.vmap(jnp.diag)(parts.variance) if self.diagonal else parts.covariance_matrix
        )
        return jnp.exp(log_weights), parts.mean, covariances

    def from_mixture(self, weights: Array, means: Array, covariances: Array) -> dict[str, Array]:
        """The parameters that make the guide this mixture; the inverse of `to_mixture`.

        A diagonal guide keeps the diagonal of every covariance.
        """
        scales = (
            {"scales": jnp.sqrt(jnp.diagonal(covariances, axis1=-2, axis2=-1))}
            if self.diagonal
            else {"scale_trils": jnp.linalg.cholesky(covariances)}
        )
        made = {"logits": jnp.log(weights), "locs": means} | scales
        return {self._name(what): value for what, value in made.items()}


@register(AutoGaussianMixture)
class GaussianMixtureFamily(MixtureFamily):
    """A mixture of Gaussians is one by nature; a single Gaussian is one of them."""

    has_projection = True

    @property
    def holds(self):
        return Covariances.DIAGONAL if self.guide.diagonal else Covariances.FULL

    @property
    def diagonal_components(self):
        return self.guide.diagonal

    def to_mixture(self, params, target):
        weights, means, covariances = self.guide.to_mixture(params)
        order = self.order(target)
        return GaussianMixture(weights, means[:, order], covariances[:, order][:, :, order])

    @property
    def kernel(self):
        return GaussianKernel()

    def from_components(self, weights, means, roots, dfs, target):
        back = self.back(target)
        return self.guide.from_components(weights, means[:, back], roots[:, back])

    def from_mixture(self, mixture, target):
        weights, means, covariances = mixture
        back = self.back(target)
        return self.guide.from_mixture(weights, means[:, back], covariances[:, back][:, :, back])


def build(
    model, components: int | Literal["auto"] = 2, diagonal: bool = False
) -> AutoGaussianMixture:
    """Mixture of Gaussians, full covariances or diagonal ones: mixture:2, or mixture:auto."""
    if components != "auto" and components < 1:
        raise InputError(f"mixture:{components} has no component; give a positive number")
    return AutoGaussianMixture(model, components, diagonal=diagonal)
