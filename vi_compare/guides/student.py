"""Mixture of multivariate Student t, over the flat unconstrained vector: heavy tails."""

from __future__ import annotations

from typing import Literal

import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from jax import Array
from numpyro.distributions import constraints
from numpyro.infer.initialization import init_to_uniform

from vi_compare.errors import InputError
from vi_compare.families import Covariances, register
from vi_compare.gaussian.gaussians import lower
from vi_compare.gaussian.kernels import StudentKernel
from vi_compare.guides._mixture import AutoMixture, MixtureFamily

# Learned degrees of freedom stay within these. At 1 the mean ceases to exist, and with it
# the reverse KL to any target whose -log p grows at least linearly. Above 1,000 a Student t
# is a normal to within d(d+2)/(4 * 1000²) nats, so that nothing pulls on the parameter any
# more, and Adam, which divides by the pull, would walk it to infinity.
LEAST_DF, MOST_DF = 1.0, 1000.0


class AutoStudentMixture(AutoMixture):
    """A guide that is a mixture of `num_components` multivariate Student t.

    Like ``AutoGaussianMixture`` it needs a loss that knows mixtures, such as
    ``vi_compare.ReverseKL()``. The gradient in the degrees of freedom is the implicit
    one through the chi-square that scales each draw (Figurnov, Mohamed and Mnih 2018,
    "Implicit reparameterization gradients"), as ``jax.random.gamma`` has it.

    Parameters in the trace: ``auto_logits`` (K,), ``auto_locs`` (K, d),
    ``auto_scale_trils`` (K, d, d), whose squares are scale matrices, not covariances,
    and ``auto_dfs`` (K,) within (1, 1000) unless `df` is given.

    Args:
        model: a NumPyro model with continuous latent sites.
        num_components: K, at least 1; or "auto", where vi_compare's own solvers find it.
        df: degrees of freedom of every component, fixed; None: learned, from 10.
        init_scale: scale of every component at the start, in units of u; the locations
            start at the initial point plus a standard normal each.

    Raises:
        ValueError: when `num_components`, `df` or `init_scale` is not positive.
    """

    scale_tril_constraint = constraints.scaled_unit_lower_cholesky

    def __init__(
        self,
        model,
        num_components=1,
        *,
        df=None,
        prefix="auto",
        init_loc_fn=init_to_uniform,
        init_scale=0.5,
    ):
        super().__init__(
            model, num_components, prefix=prefix, init_loc_fn=init_loc_fn, init_scale=init_scale
        )
        if df is not None and df <= 0:
            raise ValueError(f"df must be positive, got {df}")
        self.df = df

    def start_values(self):
        k, d = self.num_components, self.latent_dim
        tril = jnp.broadcast_to(self._init_scale * jnp.identity(d), (k, d, d))
        sites = {"scale_trils": (tril, self.scale_tril_constraint)}
        if self.df is None:
            # tails that can be seen, and a variance
            sites["dfs"] = (jnp.full(k, 10.0), constraints.interval(LEAST_DF, MOST_DF))
        return sites

    def _dfs(self, params: dict[str, Array]) -> Array:
        """Degrees of freedom (K,)."""
        if self.df is None:
            return params[self._name("dfs")]
        return jnp.full(self.num_components, float(self.df))

    def parts(self, params: dict[str, Array]) -> dist.MultivariateStudentT:
        """The K Student t, batch shape (K,), event shape (d,)."""
        locs, trils = params[self._name("locs")], params[self._name("scale_trils")]
        return dist.MultivariateStudentT(self._dfs(params), locs, trils, validate_args=False)

    def margins(self, params):
        parts = self.parts(params)
        scales = jnp.sqrt(jnp.square(parts.scale_tril).sum(-1))
        # A margin with 1 degree of freedom holds all but 1e-16 within 1e16 scales.
        return parts.loc, scales, jnp.full((self.num_components, 1), 1e16)

    def margin_cdf(self, params, z):
        return dist.StudentT(self._dfs(params)[:, None]).cdf(z)

    def from_components(
        self, weights: np.ndarray, means: np.ndarray, roots: np.ndarray, dfs: np.ndarray
    ) -> dict[str, Array]:
        """The parameters for scale matrices F Fᵀ, F (K, d, d), and degrees of freedom (K,)."""
        trils = np.stack([lower(root) for root in roots])
        made = {"logits": np.log(weights), "locs": means, "scale_trils": trils}
        made |= {"dfs": dfs} if self.df is None else {}
        return {
            self._name(what): jnp.asarray(value, jnp.result_type(float))
            for what, value in made.items()
        }


@register(AutoStudentMixture)
class StudentFamily(MixtureFamily):
    """Where the degrees of freedom are learned, a Gaussian is a member to within
    d(d+2)/(4 MOST_DF²) nats."""

    @property
    def holds(self):
        return Covariances.FULL if self.guide.df is None else None

    @property
    def kernel(self):
        # At its bounds themselves the parameter would be infinite in its unconstrained space.
        return StudentKernel(self.guide.df, least=1.01 * LEAST_DF, most=0.99 * MOST_DF)

    def from_components(self, weights, means, roots, dfs, target):
        back = self.back(target)
        return self.guide.from_components(weights, means[:, back], roots[:, back], dfs)


def build(model, components: int | Literal["auto"] = 1, df: float = 0.0) -> AutoStudentMixture:
    """Mixture of multivariate Student t, degrees of freedom learned or fixed by df=5: student:2, or
    student:auto."""
    if components != "auto" and components < 1:
        raise InputError(f"student:{components} has no component; give a positive number")
    if df < 0:
        raise InputError(f"student: df must be positive, or 0 to learn it, got {df:g}")
    return AutoStudentMixture(model, components, df=df or None)
