"""Varying intercepts and slopes in twelve groups: scales, a correlation and a simplex to infer.

Each group has its own intercept and slope, drawn from a bivariate normal with unknown scales
and correlation (non-centred; Lewandowski, Kurowicka and Joe 2009 for the prior of the
correlation). A five-level predictor acts monotonically, its steps being shares of one effect
(Bürkner and Charpentier 2020, Modelling monotonic effects of ordinal predictors, British
Journal of Mathematical and Statistical Psychology 73(3)). The data are of our own making.

Hard in a mild way, as everyday models are: nearly every kind of constrained site at once
(positive, simplex, Cholesky factor of a correlation), 34 dimensions, a group mean that moves
against its groups' deviations. Independent normals get the widths of the means wrong; what
a full covariance leaves is skewness in the scales and the simplex.
"""

import random

import jax.numpy as jnp
import numpyro
import numpyro.distributions as dist

from vi_compare import Study

GROUPS, EACH = 12, 8
STEPS = (0.1, 0.5, 0.3, 0.1)


def data():
    """Made by Python's own generator: the same numbers in any float width of JAX."""
    rng = random.Random(12)
    rows = []
    for g in range(GROUPS):
        a, b = rng.gauss(0, 1), rng.gauss(0, 1)
        intercept, slope = 1.0 + 0.8 * a, 0.5 + 0.4 * (0.6 * a + 0.8 * b)
        for _ in range(EACH):
            x, level = rng.gauss(0, 1), rng.randrange(len(STEPS) + 1)
            y = intercept + slope * x + 1.5 * sum(STEPS[:level]) + rng.gauss(0, 0.6)
            rows.append((g, x, level, y))
    return dict(
        zip(("group", "x", "level", "y"), map(jnp.array, zip(*rows, strict=True)), strict=True)
    )


def model(group, x, level, y):
    mean = numpyro.sample("mean", dist.Normal(0.0, 2.0).expand([2]).to_event(1))
    scale = numpyro.sample("scale", dist.HalfNormal(1.0).expand([2]).to_event(1))
    correlation = numpyro.sample("correlation", dist.LKJCholesky(2, 2.0))
    with numpyro.plate("groups", GROUPS):
        z = numpyro.sample("z", dist.Normal(0.0, 1.0).expand([2]).to_event(1))
    line = numpyro.deterministic("line", mean + z @ (scale[:, None] * correlation).T)

    effect = numpyro.sample("effect", dist.Normal(0.0, 2.0))
    steps = numpyro.sample("steps", dist.Dirichlet(jnp.ones(len(STEPS))))
    reached = jnp.concatenate([jnp.zeros(1), jnp.cumsum(steps)])
    noise = numpyro.sample("noise", dist.HalfNormal(1.0))
    with numpyro.plate("observations", len(y)):
        expected = line[group, 0] + line[group, 1] * x + effect * reached[level]
        numpyro.sample("y", dist.Normal(expected, noise), obs=y)


study = Study(
    model,
    data=data,
    fits=["normal/reverse-kl", "mvn/reverse-kl", "mvn/forward-kl"],
    restarts=2,
)

if __name__ == "__main__":
    study.main()
