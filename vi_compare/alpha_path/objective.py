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

from vi_compare.alpha_path.integration import IntegrationRule, Points, mass
from vi_compare.approximation import GuideApproximation
from vi_compare.target import Target

# Distance of α to 0 and 1 below which the general form loses its digits; the limits, reverse
# and forward KL, are right to it.
NEAR = 1e-6


@dataclass(frozen=True)
class Descent:
    """How A_α is minimised, and what counts as its minimum.

    Attributes:
        steps: maximum number of L-BFGS steps.
        memory: steps that L-BFGS keeps.
        gradient: largest entry of the gradient with which a search ends.
        mass: smallest mass of q that the rule must find for a q that has not left its nodes.
        value: largest A_α that counts as finite.
        plateau: share of 1 ÷ (α(1 − α)), which A_α is for 0 < α < 1 where p and q do not
            overlap, from which they are taken not to.
    """

    steps: int = 1000
    memory: int = 30
    gradient: float = 1e-7
    mass: float = 0.9
    value: float = 1e6
    plateau: float = 0.995

    def most(self, alpha: float) -> float:
        """The value that A_α is below where q and p overlap; at 1 ÷ (α(1 − α)) a search stops
        on a plateau without having found anything."""
        if not 0 < alpha < 1:
            return self.value
        return min(self.value, self.plateau / (alpha * (1 - alpha)))


@jax.jit
def terms(points: Points, alpha: ArrayLike) -> Array:
    """The term of each point in A_α, (n,)."""
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
    """log(1 + α(α − 1) A_α) / (α(α − 1)) for α outside [0, 1], where A_α has no upper bound.

    An increasing function of A_α, so that it has the same minima; its gradients are smaller,
    and it does not overflow.
    """
    dwarfed = 40.0  # log of a sum beside which 1 has no digits in float64
    log_v, log_p, log_q = points.log_v, points.log_p, points.log_q
    scale = alpha * (alpha - 1)
    each = log_v + alpha * log_p + (1 - alpha) * log_q
    large = logsumexp(each)
    # Where the sum of the powers dwarfs the rest, its logarithm is that of the whole.
    few = jnp.exp(jnp.minimum(each, dwarfed))
    rest = alpha * jnp.exp(log_v + log_p) + (1 - alpha) * jnp.exp(log_v + log_q)
    small = jnp.log1p(jnp.sum(few - rest))
    return jnp.where(large > dwarfed, large, small) / scale


@dataclass(frozen=True)
class Optimum:
    """Where a search ended.

    Attributes:
        theta: (P,) flat unconstrained parameters, in the coordinates of the search.
        value: A_α, where the rule draws by other draws than those of the search.
    """

    theta: np.ndarray
    value: float


class AlphaObjective:
    """A_α as a function of a guide's parameters; compiled once for all α, and for all
    rules of one size.

    Args:
        target, guide: the guide must have been set up.
        like: parameters of the guide, constrained, for their names and shapes.
        place: parameters as they are searched, constrained -> the guide's own.
        descent: how it is minimised.

    Attributes:
        evaluations: of A_α with its gradient, so far.
    """

    def __init__(
        self,
        target: Target,
        guide: Callable,
        like: dict,
        place: Callable[[dict], dict],
        descent: Descent = Descent(),
    ):
        self.target, self.guide, self.place, self.descent = target, guide, place, descent
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

    def _loss(self, theta: Array, alpha: Array, rule: IntegrationRule) -> Array:
        points = rule.points(self.at(theta))
        # Only one of the two is differentiated: the other may have no finite gradient.
        return jax.lax.cond(
            alpha * (alpha - 1) > NEAR,
            lambda: log_form(points, alpha),
            lambda: terms(points, alpha).sum(),
        )

    def minimised(
        self,
        theta: np.ndarray,
        alpha: float,
        rule: IntegrationRule,
        measure: IntegrationRule,
        steps: int | None = None,
    ) -> Optimum | None:
        """The local optimum that a descent from `theta` (P,) ends in.

        Args:
            rule, measure: A_α is minimised by the one, and its value is taken by the other.
            steps: maximum number of steps, None for `descent.steps`.

        Returns:
            None where the search ends at a value that is not finite, on a plateau, or with
            a q that has left the nodes.
        """

        limits = self.descent
        options = {
            "maxiter": limits.steps if steps is None else steps,
            "maxcor": limits.memory,
            "gtol": limits.gradient,
            "ftol": rule.gain,
        }
        found = minimize(
            self._counted, theta, (alpha, rule), jac=True, method="L-BFGS-B", options=options
        )
        if not np.isfinite(found.x).all() or found.fun >= 1e300:
            return None
        points = self.points(found.x, rule)
        if mass(points) < limits.mass:  # it has left the nodes
            return None
        if measure is not rule:
            points = self.points(found.x, measure)
        value = self._value(np.asarray(terms(points, alpha)), alpha, measure)
        return None if value is None else Optimum(np.asarray(found.x), value)

    def _counted(
        self, x: np.ndarray, alpha: float, rule: IntegrationRule
    ) -> tuple[float, np.ndarray]:
        """A_α and its gradient (P,) at x (P,); huge and flat where they are not finite."""
        self.evaluations += 1
        value, gradient = self._both(x, alpha, rule)
        value, gradient = float(value), np.asarray(gradient, float)
        good = np.isfinite(value) and np.isfinite(gradient).all()
        return (value, gradient) if good else (1e300, np.zeros_like(gradient))

    def _value(self, each: np.ndarray, alpha: float, rule: IntegrationRule) -> float | None:
        """A_α from its terms (n,) by a rule; None on a plateau or where it diverges."""
        value = float(each.sum())
        if not value < self.descent.most(alpha) or rule.diverges(each):
            return None
        return value

    def terms(self, theta: np.ndarray, alpha: float, rule: IntegrationRule) -> np.ndarray:
        """The terms of A_α by a rule, (n,)."""
        return np.asarray(terms(self.points(theta, rule), alpha))

    def points(self, theta: np.ndarray, rule: IntegrationRule) -> Points:
        return self._points(theta, rule)

    def log_q(self, theta: np.ndarray, u: np.ndarray) -> np.ndarray:
        """log q (n,) at points u (n, d)."""
        return np.asarray(self._log_q(theta, u))

    def apart(self, one: Optimum, other: Optimum, rule: IntegrationRule) -> float:
        """Symmetrised KL between two optima in nats."""
        return float(self._apart(one.theta, other.theta, rule))
