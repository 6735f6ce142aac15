"""Forward KL without draws of p: a Markov chain that the fit itself proposes for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from numpyro import handlers
from numpyro.primitives import mutable

from vi_compare.approximation import Approximation, GuideApproximation
from vi_compare.divergences import CARRIED, Divergence, Evaluations
from vi_compare.divergences._importance import log_weights, too_heavy, weighted_forward_kl
from vi_compare.reference.chains import Limits
from vi_compare.target import Target


class ScoreClimbing(Divergence):
    """KL(p‖q) by Markovian score climbing (Naesseth et al. 2020).

    A state of p goes on from step to step: S − 1 draws of q beside it, all weighted by
    W ∝ p̃/q, gradient −Σ W_i ∇ log q(z_i), and the next state is one of them by W, which
    leaves p as it is. Unlike the wake phase it is not biased in the long run; where q is
    bad the chain sticks, and where q has lost a mode it hardly ever finds it.

    The state lives in a mutable site of the guide: ``SVI(model,
    loss.guide_with_state(model, guide), optim, loss)``. With a bare guide every step begins at
    a fresh draw of q, which is the wake phase.

    Args:
        particles: S, points per step with the state among them.

    Raises:
        ValueError: for fewer than 2, where nothing is proposed.
    """

    def __init__(self, particles: int = 64):
        super().__init__(particles, at_least=2)

    def guide_with_state(self, model: Callable, guide: Callable) -> Callable:
        return _Carrying(model, guide)

    def estimate(self, key: Array, approximation: Approximation, target: Target) -> Array:
        u = _draws(key, approximation, self.num_particles)
        return weighted_forward_kl(u, approximation, target)

    def evaluations(self, strata: int) -> Evaluations:
        """log p at every point of the step, without its gradient: the points are held."""
        return Evaluations(self.num_particles, 0)

    def loss_with_mutable_state(self, rng_key, param_map, model, guide, *args, **kwargs):
        if CARRIED not in param_map:
            return super().loss_with_mutable_state(
                rng_key, param_map, model, guide, *args, **kwargs
            )
        key, target = self.bound(rng_key, model, args, kwargs)
        params = {name: value for name, value in param_map.items() if name != CARRIED}
        guide = guide.guide if isinstance(guide, _Carrying) else guide
        approximation = GuideApproximation(guide, params, target)
        state, (draw_key, pick_key) = param_map[CARRIED], jax.random.split(key)
        u = _draws(draw_key, approximation, self.num_particles)
        # The first step has no state yet: it begins at a draw of q.
        u = u.at[0].set(jnp.where(jnp.isnan(state["u"]), u[0], state["u"]))
        picked = jax.random.categorical(pick_key, log_weights(u, approximation, target))
        kept = {
            "u": u[picked],
            "moves": state["moves"] + (picked > 0),
            "steps": state["steps"] + 1,
        }
        loss = weighted_forward_kl(u, approximation, target)
        return {"loss": loss, "mutable_state": {CARRIED: kept}}

    def why_doubtful(self, key: Array, approximation: GuideApproximation, carried: Any) -> str:
        moves, steps = (int(np.sum(carried[what])) for what in ("moves", "steps"))
        # Fewer states than a reference must have effective draws are no sample of p.
        if moves < Limits().ess:
            return f"its chain moved in {moves:,} of {steps:,} steps, too few to stand for p"
        return too_heavy(key, approximation)


class _Carrying:
    """A guide with a mutable site beside it, in which the loss keeps its chain."""

    def __init__(self, model: Callable, guide: Callable):
        self.model, self.guide = model, guide

    def __call__(self, *args, **kwargs):
        with handlers.block():  # the model's sites are not the guide's
            dim = Target(self.model, args, kwargs).dim
        nowhere = jnp.full(dim, jnp.nan)
        mutable(CARRIED, {"u": nowhere, "moves": jnp.zeros(()), "steps": jnp.zeros(())})
        return self.guide(*args, **kwargs)


def _draws(key: Array, approximation: Approximation, n: int) -> Array:
    return jax.lax.stop_gradient(jax.vmap(approximation.draw)(jax.random.split(key, n)))


def build(reference, particles: int = 64) -> ScoreClimbing:
    """KL(p‖q) by a Markov chain that q proposes for: no draws of the target, no bias in the end."""
    return ScoreClimbing(particles)
