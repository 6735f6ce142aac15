"""NumPyro's ``AutoIAFNormal``, with restarts that begin apart."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpyro
import numpyro.distributions as dist
from jax import Array
from numpyro import handlers
from numpyro.distributions import constraints
from numpyro.distributions.transforms import LowerCholeskyAffine
from numpyro.infer.autoguide import AutoIAFNormal

from vi_compare.errors import InputError
from vi_compare.families import Covariances, FlatFamily, register


class _InverseAutoregressive(AutoIAFNormal):
    """``AutoIAFNormal`` that says what to do in one dimension, and where restarts begin.

    Its vector is mapped once more, u = loc + tril v, by parameters that a solver sets and no
    gradient moves; as they begin, the map is the identity.

    Attributes:
        width: units of each of two hidden layers; None: as many as the vector has entries.
    """

    def __init__(self, model, *, flows: int, width: int | None):
        super().__init__(model, num_flows=flows)
        self.width = width

    def _get_posterior(self):
        d = self.latent_dim
        if d == 1:
            raise InputError(
                "iaf: one dimension has nothing to be autoregressive on; "
                "take mixture:K or student:K instead"
            )
        if self.width is not None and self.width < d:
            raise InputError(
                f"iaf: width must be at least the target's dimension {d}, got {self.width}"
            )
        layers = 2  # as NumPyro has them by default
        self._hidden_dims = [d if self.width is None else self.width] * layers
        loc = numpyro.param(f"{self.prefix}_frame_loc", jnp.zeros(d))
        tril = numpyro.param(
            f"{self.prefix}_frame_tril", jnp.eye(d), constraint=constraints.lower_cholesky
        )
        still = LowerCholeskyAffine(*map(jax.lax.stop_gradient, (loc, tril)))
        flow = super()._get_posterior()
        return dist.TransformedDistribution(flow, still)

    def fresh(self, key: Array) -> dict[str, Any]:
        """{name: value} of all parameters, its networks begun anew."""
        with handlers.block(), handlers.trace() as trace, handlers.seed(rng_seed=key):
            self._get_posterior()
        return {name: site["value"] for name, site in trace.items() if site["type"] == "param"}


@register(_InverseAutoregressive)
class InverseAutoregressiveFamily(FlatFamily):
    """A flow whose map is followed by one more, u = loc + tril v, to carry it."""

    # by the shifts and scales of the last flow alone
    holds = Covariances.DIAGONAL
    can_be_framed = True

    def in_frame(self, params, target, frame):
        frame = frame.reordered(self.back(target))
        names = (self.name(f"frame_{what}") for what in ("loc", "tril"))
        return params | dict(zip(names, (frame.mean, frame.tril), strict=True))

    def spread(self, params, target, key, points):
        """Fresh networks, and the last flow's shift at the first of `points` (m, d)."""
        fresh = self.guide.fresh(key)
        last = self.name(f"arn__{self.guide.num_flows - 1}$params")
        *layers, (weights, bias) = fresh[last]
        # the output layer gives the shift first, then the log scale
        place = points[0, self.back(target)]
        moved = (weights, bias.at[: self.guide.latent_dim].add(place))
        return params | fresh | {last: [*layers, moved]}


def build(model, flows: int = 3, width: int = 0) -> AutoIAFNormal:
    """Inverse autoregressive flow; width 0 is the dimension (numpyro AutoIAFNormal)."""
    if flows < 1:
        raise InputError(f"iaf:{flows} has no flow; give a positive number")
    if width < 0:
        raise InputError(f"iaf: width must be positive, or 0 for the dimension, got {width}")
    return _InverseAutoregressive(model, flows=flows, width=width or None)
