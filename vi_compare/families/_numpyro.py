"""The families of NumPyro's own guides.

Parameters are named as NumPyro names them, and follow the guide's own flat vector, which
holds the same unconstrained values as u, perhaps in another order.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from jax import Array
from numpyro import handlers
from numpyro.infer.autoguide import (
    AutoContinuous,
    AutoDelta,
    AutoDiagonalNormal,
    AutoLaplaceApproximation,
    AutoLowRankMultivariateNormal,
    AutoMultivariateNormal,
    AutoNormal,
)

from vi_compare.errors import InputError
from vi_compare.families._family import Covariances, Family, GaussianMixture, register
from vi_compare.gaussian.gaussians import FullRank, MeanField, lower
from vi_compare.gaussian.low_rank import project
from vi_compare.guide_trace import refuse_unless_reparameterised
from vi_compare.target import Target


@register(AutoDelta)
class PointFamily(Family):
    """No distribution at all, which is said as soon as its density or a draw is asked for."""

    def draw(self, params, target, key):
        raise self._refused()

    def log_prob(self, params, target, u):
        raise self._refused()

    def strata(self, params, target, key, n):
        raise self._refused()

    def _refused(self) -> InputError:
        return InputError(
            "AutoDelta is a point, not a distribution: it has no density to compare; "
            "AutoLaplaceApproximation puts a Gaussian around the same point"
        )


@register(AutoContinuous)
class FlatFamily(Family):
    """An ``AutoContinuous`` guide: a distribution on its own flat vector, the latent."""

    def posterior(self, params: dict) -> dist.Distribution:
        """q over the latent (d,)."""
        # A flow traces its networks again, which nobody outside is to see.
        with handlers.block():
            posterior = self.guide.get_posterior(params)
        return posterior if posterior.event_dim else posterior.to_event(1)

    def parts(self, params: dict) -> tuple[Array, dist.Distribution]:
        """Log weights (K,) and the parts that q is made of, batch shape (K,), over the latent."""
        return jnp.zeros(1), self.posterior(params).expand((1,))

    def order(self, target: Target) -> np.ndarray:
        """(d,) whole numbers with u = latent[order]."""
        unpacked = self.guide._unpack_latent.unpack_fn(np.arange(target.dim))
        return np.concatenate([np.ravel(unpacked[site.name]) for site in target.sites]).astype(int)

    def back(self, target: Target) -> np.ndarray:
        """(d,) whole numbers with latent = u[back]."""
        return np.argsort(self.order(target))

    def name(self, what: str) -> str:
        """Of the parameter that NumPyro names by `what` it is."""
        return f"{self.guide.prefix}_{what}"

    def draw(self, params, target, key):
        return self.posterior(params).sample(key)[self.order(target)]

    def log_prob(self, params, target, u):
        return self.posterior(params).log_prob(u[self.back(target)])

    def strata(self, params, target, key, n):
        log_weights, parts = self.parts(params)
        refuse_unless_reparameterised(parts, type(self.guide).__name__)
        u = jnp.swapaxes(parts.rsample(key, (n,)), 0, 1)[..., self.order(target)]
        # Without the barrier XLA makes the random numbers anew in every term that u is in: a
        # step of SVI takes two to four times as long.
        return log_weights, jax.lax.optimization_barrier(u)

    def spread(self, params, target, key, points):
        loc = self.name("loc")
        return params | {loc: points[0, self.back(target)]} if loc in params else params


class GaussianFamily(FlatFamily):
    """One Gaussian on the flat vector."""

    def to_mixture(self, params, target):
        posterior, order = self.guide.get_posterior(params), self.order(target)
        covariance = self.covariance(posterior)
        return single(posterior.mean[order], covariance[order][:, order])

    def covariance(self, posterior: dist.Distribution) -> Array:
        """(d, d), over the latent."""
        return posterior.covariance_matrix

    def located(self, params: dict, mean: np.ndarray, scales: np.ndarray) -> dict:
        """Parameters over v -> those over mean + scales v, both (d,) over the latent."""
        loc, scale = self.name("loc"), self.name("scale")
        return params | {loc: mean + scales * params[loc], scale: scales * params[scale]}


@register(AutoMultivariateNormal)
class FullRankFamily(GaussianFamily):
    """A mean and the Cholesky factor of the covariance."""

    covariances = holds = Covariances.FULL
    has_projection = can_be_framed = True

    def from_mixture(self, mixture, target):
        back = self.back(target)
        tril = jnp.linalg.cholesky(mixture.covariances[0][back][:, back])
        return {self.name("loc"): mixture.means[0][back], self.name("scale_tril"): tril}

    def gaussian(self, params, target):
        posterior, order = self.guide.get_posterior(params), self.order(target)
        mean, tril = (np.asarray(a, float)[order] for a in (posterior.mean, posterior.scale_tril))
        return FullRank(mean, lower(tril))

    def from_gaussian(self, mean, factor, target):
        back = self.back(target)
        made = {self.name("loc"): mean[back], self.name("scale_tril"): lower(factor[back])}
        return jax.tree.map(as_float, made)

    def in_frame(self, params, target, frame):
        frame = frame.reordered(self.back(target))
        loc, tril = self.name("loc"), self.name("scale_tril")
        return {loc: frame.mean + frame.tril @ params[loc], tril: frame.tril @ params[tril]}


@register(AutoDiagonalNormal)
class DiagonalFamily(GaussianFamily):
    """A mean and a scale for each coordinate."""

    covariances = holds = Covariances.DIAGONAL
    has_projection = can_be_framed = True

    def covariance(self, posterior):
        return jnp.diag(posterior.variance)

    def from_mixture(self, mixture, target):
        back = self.back(target)
        scale = jnp.sqrt(jnp.diag(mixture.covariances[0]))[back]
        return {self.name("loc"): mixture.means[0][back], self.name("scale"): scale}

    def gaussian(self, params, target):
        return mean_field(self.to_mixture(params, target))

    def from_gaussian(self, mean, factor, target):
        back = self.back(target)
        scale = np.linalg.norm(factor, axis=1)[back]
        made = {self.name("loc"): mean[back], self.name("scale"): scale}
        return jax.tree.map(as_float, made)

    def in_frame(self, params, target, frame):
        frame = frame.reordered(self.back(target))
        return self.located(params, frame.mean, frame.conditional_scales)


@register(AutoLowRankMultivariateNormal)
class LowRankFamily(GaussianFamily):
    """A mean, scales, and a factor W of the correlations: its best one has no closed form."""

    covariances, holds = Covariances.LOW_RANK, Covariances.DIAGONAL
    can_be_framed = True

    def rank(self, dim):
        return self.guide.rank or round(dim**0.5)

    def from_low_rank(self, q, target):
        back = self.back(target)
        # NumPyro has its factor in units of the scale, and as many columns as it was asked for.
        scaled = np.zeros((len(q.mean), self.guide.rank or q.factor.shape[1]))
        scaled[:, : q.factor.shape[1]] = q.factor / q.scales[:, None]
        made = {"loc": q.mean[back], "cov_factor": scaled[back], "scale": q.scales[back]}
        return {self.name(what): as_float(value) for what, value in made.items()}

    def in_frame(self, params, target, frame):
        frame = frame.reordered(self.back(target))
        return self.located(params, frame.mean, frame.scales)

    def shaped(self, params, target, frame):
        # At a factor of 0 the ELBO is flat in its sign, and every start would be a saddle.
        unit = FullRank(np.zeros_like(frame.mean), frame.tril / frame.scales[:, None])
        rank = params[self.name("cov_factor")].shape[1]
        near = project(unit, rank, np.random.default_rng(0))
        return params | self.from_low_rank(near, target)


@register(AutoLaplaceApproximation)
class LaplaceFamily(GaussianFamily):
    """A location; the covariance is the curvature of log p there."""

    holds = Covariances.FULL
    sits_at_a_mode = True

    def at_mode(self, u, target):
        return {self.name("loc"): jnp.asarray(u[self.back(target)])}


@register(AutoNormal)
class SiteNormalFamily(Family):
    """Independent normals site by site, drawn and evaluated as the one normal on the flat vector
    that they are: XLA takes a minute for 200 sites one by one, and no longer than for one so."""

    covariances = holds = Covariances.DIAGONAL
    has_projection = can_be_framed = True

    def posterior(self, params: dict, target: Target) -> dist.Distribution:
        """q over u (d,)."""
        loc, scale = (
            target.ravel({s.name: params[self._name(s.name, what)] for s in target.sites})
            for what in ("loc", "scale")
        )
        return dist.Normal(loc, scale).to_event(1)

    def draw(self, params, target, key):
        return self.posterior(params, target).sample(key)

    def log_prob(self, params, target, u):
        return self.posterior(params, target).log_prob(u)

    def strata(self, params, target, key, n):
        u = self.posterior(params, target).rsample(key, (n,))
        return jnp.zeros(1), jax.lax.optimization_barrier(u[None])  # as in `FlatFamily.strata`

    def to_mixture(self, params, target):
        normal = self.posterior(params, target)
        return single(normal.mean, jnp.diag(normal.variance))

    def from_mixture(self, mixture, target):
        scale = jnp.sqrt(jnp.diag(mixture.covariances[0]))
        return self._params(target.unravel(mixture.means[0]), target.unravel(scale))

    def gaussian(self, params, target):
        return mean_field(self.to_mixture(params, target))

    def from_gaussian(self, mean, factor, target):
        scale = np.linalg.norm(factor, axis=1)
        return self._params(*(target.unravel(as_float(a)) for a in (mean, scale)))

    def in_frame(self, params, target, frame):
        mean, scales = map(target.unravel, (frame.mean, frame.conditional_scales))
        old = lambda name, what: params[self._name(name, what)]
        loc = {name: mean[name] + scales[name] * old(name, "loc") for name in mean}
        return self._params(loc, {name: scales[name] * old(name, "scale") for name in mean})

    def spread(self, params, target, key, points):
        placed = {self._name(n, "loc"): v for n, v in target.unravel(points[0]).items()}
        return params | placed

    def _name(self, site: str, what: str) -> str:
        return f"{site}_{self.guide.prefix}_{what}"

    def _params(self, loc: dict[str, Array], scale: dict[str, Array]) -> dict[str, Array]:
        return {self._name(name, "loc"): value for name, value in loc.items()} | {
            self._name(name, "scale"): value for name, value in scale.items()
        }


def single(mean: Array, covariance: Array) -> GaussianMixture:
    """One Gaussian, mean (d,) and covariance (d, d), as a mixture."""
    return GaussianMixture(jnp.ones(1), mean[None], covariance[None])


def mean_field(mixture: GaussianMixture) -> MeanField:
    """The only component of a mixture, whose covariance is diagonal."""
    mean, covariance = (np.asarray(a, float)[0] for a in (mixture.means, mixture.covariances))
    scales = np.sqrt(np.diag(covariance))
    return MeanField(mean, scales, np.diag(scales))


def as_float(a: np.ndarray) -> Array:
    """As JAX's default float."""
    return jnp.asarray(a, jnp.result_type(float))
