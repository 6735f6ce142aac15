"""Counts along a line with a Gaussian process for their log rate: 30 function values, 2 scales.

Thirty counts of our own making, Poisson with log rate f, f a Gaussian process with squared
exponential kernel, whose amplitude and length scale are unknown too; f = L z with a standard
normal z, as in Rasmussen and Williams (2006), Gaussian processes for machine learning, ch. 3.

Hard for independent normals: through L every z acts on all later values, so the z are tied
together by the data, and all of them to the length scale. What a full covariance misses is
the ridge of amplitude against length scale and its skewness.
"""

import math
import random

import jax.numpy as jnp
import numpyro
import numpyro.distributions as dist

from vi_compare import Study

POINTS = 30


def data():
    """Made by Python's own generator: the same numbers in any float width of JAX."""
    rng = random.Random(8)
    x = [10 * i / (POINTS - 1) for i in range(POINTS)]
    rate = [math.exp(1.2 + math.sin(v) + 0.5 * math.cos(2.3 * v)) for v in x]
    return {"x": jnp.array(x), "count": jnp.array([poisson(rng, r) for r in rate])}


def poisson(rng, rate):
    """How many unit exponential waiting times fit into `rate`."""
    n, time = 0, rng.expovariate(1.0)
    while time < rate:
        n, time = n + 1, time + rng.expovariate(1.0)
    return n


def model(x, count):
    amplitude = numpyro.sample("amplitude", dist.HalfNormal(2.0))
    length = numpyro.sample("length", dist.InverseGamma(5.0, 5.0))
    z = numpyro.sample("z", dist.Normal(0.0, 1.0).expand([len(x)]).to_event(1))
    kernel = jnp.exp(-0.5 * ((x[:, None] - x) / length) ** 2)
    # A kernel this smooth is singular to rounding; the jitter makes it invertible.
    tril = jnp.linalg.cholesky(kernel + 1e-6 * jnp.eye(len(x)))
    f = numpyro.deterministic("f", amplitude * (tril @ z))
    with numpyro.plate("points", len(x)):
        numpyro.sample("count", dist.Poisson(jnp.exp(f)), obs=count)


study = Study(
    model,
    data=data,
    fits=["diagonal/reverse-kl", "laplace/reverse-kl", "mvn/forward-kl"],
    restarts=2,
)

if __name__ == "__main__":
    study.main()
