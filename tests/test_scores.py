"""Curvature of log p: of any density that has a gradient, by whichever mode it can be had."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from jax.experimental.ode import odeint

from vi_compare.scores import PointScores, Scores
from vi_compare.target import Target

PRECISION = np.array([[2.0, 0.5], [0.5, 1.0]])


@jax.custom_vjp
def square(x):
    return x @ PRECISION @ x / 2


square.defvjp(lambda x: (square(x), x), lambda x, g: (g * (PRECISION @ x),))


def by_own_rule():
    """A quadratic whose gradient is a rule of its own: JAX refuses to go forward through it."""
    x = numpyro.sample("x", dist.ImproperUniform(dist.constraints.real_vector, (), (2,)))
    numpyro.factor("f", -square(x))


def by_ode():
    """x(1) of x' = −a x is e^(−a): log p = −a²/2 − (e^(−a) − 0.5)²/2, up to a constant."""
    a = numpyro.sample("a", dist.Normal(0.0, 1.0))
    end = odeint(lambda x, t, a: -a * x, jnp.ones(1), jnp.array([0.0, 1.0]), a)[1, 0]
    numpyro.sample("y", dist.Normal(end, 1.0), obs=0.5)


@pytest.mark.parametrize("kind", [Scores, PointScores])
@pytest.mark.parametrize("model", [by_own_rule, by_ode])
def test_a_density_with_a_gradient_rule_of_its_own_has_a_curvature(kind, model):
    """By the formula, for f = e^(−a): 1 + f² + (f − 0.5) f. The solver is right to 1e-8."""
    target = Target(model)
    x = np.full(target.dim, 0.3)
    f = np.exp(-0.3)
    truth = PRECISION if model is by_own_rule else np.array([[1 + f**2 + (f - 0.5) * f]])
    np.testing.assert_allclose(kind(target).curvature(x), truth, rtol=1e-5)
