"""Targets for which others have printed what their methods reach, with the exact answers."""

from __future__ import annotations

import sys
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
from numpyro.distributions import constraints
from sklearn.datasets import load_breast_cancer

from vi_compare.target import Target

sys.path.insert(0, str(Path(__file__).parents[1]))
from targets import script

# log Z; of the first to five hundredths of a nat, by long sampling, of the others by quadrature.
LOG_Z = {
    "breast cancer": -77.570,
    "funnel": 0.0,
    "forty modes": 0.0,
    "many well": 164.695675,
    "Rosenbrock": -6.822309,
    "ring": 2.5337,
    "student mixture": 0.0,
}


def breast_cancer() -> Target:
    """31 dimensions: every feature divided by its standard deviation and not centred, and
    w ~ N(0, 10²); the best Gaussian has an ELBO of −78.91."""
    data = load_breast_cancer()
    features = data.data / data.data.std(axis=0)
    x = jnp.asarray(np.column_stack([np.ones(len(features)), features]))
    y = jnp.asarray(data.target)

    def model():
        w = numpyro.sample("w", dist.Normal(0.0, 10.0).expand([x.shape[1]]).to_event(1))
        numpyro.sample("y", dist.Bernoulli(logits=x @ w), obs=y)

    return Target(model)


def rosenbrock_log_density(x: jnp.ndarray) -> jnp.ndarray:
    """Two banana-shaped pairs and two normals, under a wide prior; x (6,)."""
    a, b = x[jnp.array([0, 2])], x[jnp.array([1, 3])]
    bent = ((a**2 - b) ** 2 + (a - 1) ** 2 / 100).sum()
    return -bent - (x[4:] ** 2).sum() / 2 + dist.Normal(0.0, 3.0).log_prob(x).sum()


def ring_log_density(x: jnp.ndarray) -> jnp.ndarray:
    """A ring of radius 8 and width 0.1; x (2,)."""
    r = jnp.sqrt((x[0] - 1) ** 2 + (x[1] + 2) ** 2)
    return -((r - 8) ** 2) / (2 * 0.1**2)


def of(log_density, dim: int) -> Target:
    def model():
        x = numpyro.sample("x", dist.ImproperUniform(constraints.real_vector, (), (dim,)))
        numpyro.factor("log_p", log_density(x))

    return Target(model)


def gallery(name: str) -> Target:
    return script(name).study.target()


TARGETS = {
    "breast cancer": breast_cancer,
    "funnel": lambda: gallery("funnel"),
    "forty modes": lambda: gallery("forty_modes"),
    "many well": lambda: gallery("many_well"),
    "Rosenbrock": lambda: of(rosenbrock_log_density, 6),
    "ring": lambda: of(ring_log_density, 2),
    "student mixture": lambda: gallery("student_mixture"),
}
