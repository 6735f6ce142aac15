"""Stochastic volatility: a hundred returns, and the hidden series that sets their size.

y_t ~ N(0, exp((mu + h_t)/2)), h_t = phi h_(t−1) + sigma e_t from h_0 = 0: Taylor (1982) and Kim,
Shephard and Chib (1998), Stochastic volatility: likelihood inference and comparison with ARCH
models, Review of Economic Studies 65(3), whose prior of phi is used here. The returns are
simulated with mu = −1, phi = 0.95, sigma = 0.25; 103 latents.

The latents are the standardised shocks e_t (non-centred): with the h_t themselves their scale
sigma makes a funnel with all hundred of them, on which NUTS reaches an R-hat of 1.011 and 134
effective draws in a million gradients. Hard for independent normals all the same: every
return speaks about a sum of shocks, which ties neighbours together, and about mu, phi and sigma
at once.
"""

import math
import random

import jax.numpy as jnp
import numpyro
import numpyro.distributions as dist

from vi_compare import Study

TIMES = 100


def data():
    """Made by Python's own generator: the same numbers in any float width of JAX."""
    rng = random.Random(98)
    h, returns = 0.0, []
    for _ in range(TIMES):
        h = 0.95 * h + 0.25 * rng.gauss(0, 1)
        returns.append(math.exp((h - 1) / 2) * rng.gauss(0, 1))
    return {"returns": jnp.array(returns)}


def model(returns):
    mu = numpyro.sample("mu", dist.Normal(0.0, 5.0))
    phi = numpyro.sample("phi", dist.Beta(20.0, 1.5))
    sigma = numpyro.sample("sigma", dist.HalfNormal(0.5))
    shocks = numpyro.sample("shocks", dist.Normal(0.0, 1.0).expand([len(returns), 1]).to_event(2))
    h = dist.transforms.RecursiveLinearTransform(phi[None, None])(sigma * shocks)
    volatility = numpyro.deterministic("volatility", jnp.exp((mu + h[:, 0]) / 2))
    with numpyro.plate("times", len(returns)):
        numpyro.sample("returns", dist.Normal(0.0, volatility), obs=returns)


study = Study(
    model,
    data=data,
    fits=["diagonal/reverse-kl", "lowrank:3/reverse-kl", "mvn/forward-kl"],
    restarts=2,
)

if __name__ == "__main__":
    study.main()
