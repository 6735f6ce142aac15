"""A guide: independent logistic distributions, whose tails are heavier than a Gaussian's.

A guide is NumPyro's: anything with `sample` and `param` statements will do, and works in
anybody's SVI. An `AutoContinuous` needs two methods: one declares its parameters, the other makes
the distribution of the flat unconstrained vector from them. Whatever else it can do, it says in
its family.
"""

from __future__ import annotations

import jax.numpy as jnp
import numpyro
import numpyro.distributions as dist
from numpyro.distributions import constraints
from numpyro.infer.autoguide import AutoContinuous

from vi_compare.families import FlatFamily, register


class AutoLogistic(AutoContinuous):
    """Independent logistic distributions over the flat unconstrained vector."""

    def _get_posterior(self):
        loc, scale = f"{self.prefix}_loc", f"{self.prefix}_scale"
        small, positive = jnp.full(self.latent_dim, 0.1), constraints.softplus_positive
        return self.get_posterior(
            {
                loc: numpyro.param(loc, self._init_latent),
                scale: numpyro.param(scale, small, constraint=positive),
            }
        )

    def get_posterior(self, params):
        loc, scale = params[f"{self.prefix}_loc"], params[f"{self.prefix}_scale"]
        return dist.Logistic(loc, scale).to_event(1)


# The family answers what the rest of the package asks of a guide. Drawing, log q and where
# restarts begin come with FlatFamily; all else has an honest default ("not offered"), so this
# class could be empty. Saying how the parameters are carried from the frame of a Gaussian lets
# the default solver search where all scales are 1, instead of plain SVI.
@register(AutoLogistic)
class LogisticFamily(FlatFamily):
    """A location and a scale for each coordinate."""

    can_be_framed = True

    def in_frame(self, params, target, frame):
        """Parameters over v -> those over u = mean + scales v: independent coordinates can be
        moved and stretched, not turned."""
        # The guide's own vector may hold the entries of u in another order.
        frame = frame.reordered(self.back(target))
        loc, scale = self.name("loc"), self.name("scale")
        stretch = frame.conditional_scales
        return {loc: frame.mean + stretch * params[loc], scale: stretch * params[scale]}


def build(model) -> AutoLogistic:
    """Independent logistic distributions: tails heavier than normal ones."""
    return AutoLogistic(model)
