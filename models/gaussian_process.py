"""Counts along a line with a Gaussian process for their log rate: 20 coefficients, 2 scales.

Thirty counts of our own making, Poisson with log rate f, f a Gaussian process with squared
exponential kernel, whose amplitude and length scale are unknown too; as a sum of 20 sines with
normal coefficients, the Hilbert space approximation of Solin and Särkkä (2020) and
Riutort-Mayol et al. (2023), Statistics and Computing 30 and 33, which needs no factor of a
matrix at every step.

Hard for independent normals: the data speak of sums of sines, which ties the coefficients
together, and all of them to the length scale. Hard for the mode and its curvature: the ridge of
amplitude against length scale is skewed.
"""

import math
import random

import jax.numpy as jnp
import numpyro
import numpyro.distributions as dist

from vi_compare import Study

POINTS, SINES = 30, 20
HALF = 7.5  # the sines vanish at ±7.5; the data lie within ±5


def data():
    """Made by Python's own generator: the same numbers in any float width of JAX."""
    rng = random.Random(8)
    x = [10 * i / (POINTS - 1) - 5 for i in range(POINTS)]
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
    z = numpyro.sample("z", dist.Normal(0.0, 1.0).expand([SINES]).to_event(1))
    omega = jnp.pi * jnp.arange(1, SINES + 1) / (2 * HALF)
    sines = jnp.sin(omega * (x[:, None] + HALF)) / math.sqrt(HALF)
    # The square root of the kernel's spectral density at each frequency.
    root = jnp.sqrt(math.sqrt(2 * math.pi) * length) * jnp.exp(-((length * omega) ** 2) / 4)
    f = numpyro.deterministic("f", amplitude * (sines @ (root * z)))
    with numpyro.plate("points", len(x)):
        numpyro.sample("count", dist.Poisson(jnp.exp(f)), obs=count)


study = Study(
    model,
    data=data,
    fits=["diagonal/reverse-kl", "laplace/reverse-kl", "mvn/reverse-kl", "mvn/forward-kl"],
    restarts=2,
)

if __name__ == "__main__":
    study.main()
