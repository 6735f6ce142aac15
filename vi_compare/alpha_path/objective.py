"""Amari's A_α as a sum over points, and its minimum over a guide's parameters.

In the form ∫ [α p + (1 − α) q − p^α q^(1−α)] / (α(1 − α)), whose integrand is nowhere
negative and zero where q = p: by any rule q = p is its minimum, and no term grows without bound
as α goes to 0 (reverse KL) or 1 (forward KL).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array
from jax.flatten_util import ravel_pytree
from jax.scipy.special import logsumexp
from jax.typing import ArrayLike
from numpyro.infer import SVI, Trace_ELBO
from scipy.optimize import minimize

from vi_compare.alpha_path.integration import Points, Rule, mass
from vi_compare.approximation import GuideApproximation
from vi_compare.target import Target

# Nearer to 0 and 1 than this the general form loses its digits, and the limits are right to it.
NEAR = 1e-6
# Where A_α is larger it counts as infinite; and the share of what it is where p and q do not
# overlap from which they are taken not to.
MOST_VALUE, PLATEAU = 1e6, 0.995
LEAST_MASS = 0.9  # of q where the nodes are
DWARFED = 40.0  # log of a sum beside which 1 has no digits
# Of a search: its limit, the steps it remembers, and the gradient with which it is over.
MOST_STEPS, MEMORY, GRADIENT = 1000, 30, 1e-7


@jax.jit
def terms(points: Points, alpha: ArrayLike) -> Array:
    """What each point adds to A_α, (n,)."""
    log_v, log_p, log_q = points.log_v, points.log_p, points.log_q
    p, q = jnp.exp(log_v + log_p), jnp.exp(log_v + log_q)
    power = jnp.exp(log_v + alpha * log_p + (1 - alpha) * log_q)
    limits = [jnp.abs(alpha) < NEAR, jnp.abs(1 - alpha) < NEAR]
    scale = jnp.where(limits[0] | limits[1], 1.0, alpha * (1 - alpha))
    general = (alpha * p + (1 - alpha) * q - power) / scale
    reverse = q * (log_q - log_p) + p - q
    forward = p * (log_p - log_q) + q - p
    return jnp.select(limits, [reverse, forward], general)


def log_form(points: Points, alpha: Array) -> Array:
    """log(1 + α(α − 1) A_α) / (α(α − 1)) for α outside [0, 1], where A_α has no upper bound:
    it falls where A_α does, less steeply, and overflows nowhere."""
    log_v, log_p, log_q = points.log_v, points.log_p, points.log_q
    scale = alpha * (alpha - 1)
    each = log_v + alpha * log_p + (1 - alpha) * log_q
    large = logsumexp(each)
    # Where the sum of the powers dwarfs the rest it is its own logarithm.
    few = jnp.exp(jnp.minimum(each, DWARFED))
    rest = alpha * jnp.exp(log_v + log_p) + (1 - alpha) * jnp.exp(log_v + log_q)
    small = jnp.log1p(jnp.sum(few - rest))
    return jnp.where(large > DWARFED, large, small) / scale


@dataclass(frozen=True)
class Optimum:
    """Where a search ended.

    Attributes:
        theta: (P,) flat unconstrained parameters, in the coordinates of the search.
        value: A_α, by a rule that the search had no part in where the rule draws.
    """

    theta: np.ndarray
    value: float


class Objective:
    """A_α as a function of a guide's parameters; compiled once for all α, and for all
    rules of one size.

    Args:
        target, guide: the guide must have been set up.
        like: parameters of the guide, constrained, for their names and shapes.
        place: parameters as they are searched, constrained -> the guide's own.

    Attributes:
        evaluations: of A_α with its gradient, so far.
    """

    def __init__(self, target: Target, guide: Callable, like: dict, place: Callable[[dict], dict]):
        self.target, self.guide, self.place = target, guide, place
        self.evaluations = 0
        self.svi = SVI(target.model, guide, optax.identity(), Trace_ELBO())
        first, self._unravel = ravel_pytree(self._unconstrained(like))
        self.size = len(first)
        self._both = jax.jit(jax.value_and_grad(self._loss))
        self._log_q = jax.jit(lambda theta, u: jax.vmap(self.at(theta).log_prob)(u))
        self._points = jax.jit(lambda theta, rule: rule.points(self.at(theta)))
        self._apart = jax.jit(lambda one, two, rule: rule.apart(self.at(one), self.at(two)))
        self._params = jax.jit(lambda theta: self.at(theta).params)

    def _unconstrained(self, params: dict) -> Any:
        key = jax.random.key(0)
        state = self.svi.init(key, *self.target.args, init_params=params, **self.target.kwargs)
        return self.svi.optim.get_params(state.optim_state)

    def theta(self, params: dict) -> np.ndarray:
        """Parameters as they are searched, constrained -> flat and unconstrained (P,)."""
        return np.asarray(ravel_pytree(self._unconstrained(params))[0], float)

    def at(self, theta: Array) -> GuideApproximation:
        params = self.place(self.svi.constrain_fn(self._unravel(theta)))
        return GuideApproximation(self.guide, params, self.target)

    def approximation(self, theta: np.ndarray) -> GuideApproximation:
        """q at (P,), its parameters as plain arrays."""
        return GuideApproximation(self.guide, self._params(theta), self.target)

    def _loss(self, theta: Array, alpha: Array, rule: Rule) -> Array:
        points = rule.points(self.at(theta))
        # Only one of the two is differentiated: the other may have no finite gradient.
        return jax.lax.cond(
            alpha * (alpha - 1) > NEAR,
            lambda: log_form(points, alpha),
            lambda: terms(points, alpha).sum(),
        )

    def minimised(
        self, theta: np.ndarray, alpha: float, rule: Rule, measure: Rule, steps: int = MOST_STEPS
    ) -> Optimum | None:
        """The optimum by `rule` at the bottom of the valley that `theta` (P,) is in, its value
        by `measure`; None where the search ends at nothing finite or nowhere."""

        def both(x):
            self.evaluations += 1
            value, slope = self._both(x, alpha, rule)
            value, slope = float(value), np.asarray(slope, float)
            good = np.isfinite(value) and np.isfinite(slope).all()
            return (value, slope) if good else (1e300, np.zeros_like(slope))

        options = {"maxiter": steps, "maxcor": MEMORY, "gtol": GRADIENT, "ftol": rule.gain}
        found = minimize(both, theta, jac=True, method="L-BFGS-B", options=options)
        if not np.isfinite(found.x).all() or found.fun >= 1e300:
            return None
        points = self.points(found.x, rule)
        if mass(points) < LEAST_MASS:  # it has left the nodes
            return None
        if measure is not rule:
            points = self.points(found.x, measure)
        each = np.asarray(terms(points, alpha))
        value = float(each.sum())
        if not value < _most(alpha) or measure.diverges(each):
            return None
        return Optimum(np.asarray(found.x), value)

    def terms(self, theta: np.ndarray, alpha: float, rule: Rule) -> np.ndarray:
        """What each point of a rule adds to A_α, (n,)."""
        return np.asarray(terms(self.points(theta, rule), alpha))

    def points(self, theta: np.ndarray, rule: Rule) -> Points:
        return self._points(theta, rule)

    def log_q(self, theta: np.ndarray, u: np.ndarray) -> np.ndarray:
        """log q (n,) at points u (n, d)."""
        return np.asarray(self._log_q(theta, u))

    def apart(self, one: Optimum, other: Optimum, rule: Rule) -> float:
        """Symmetrised KL between two optima in nats."""
        return float(self._apart(one.theta, other.theta, rule))


def _most(alpha: float) -> float:
    """What A_α is below where q and p overlap: 1/(α(1 − α)) is the plateau of those that do not,
    on which a search stops without having found anything."""
    return min(MOST_VALUE, PLATEAU / (alpha * (1 - alpha))) if 0 < alpha < 1 else MOST_VALUE
