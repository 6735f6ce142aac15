"""Forty unit Gaussians scattered over a square: a fit that starts in the middle sees few of them.

Equal weights, unit covariances, means uniform on [−40, 40]². Like the target "GMM-40" of
Midgley, Stimper, Simm, Schölkopf and Hernández-Lobato (2023), Flow annealed importance
sampling bootstrap, ICLR; the means here are of our own drawing, and no two are nearer to
each other than four standard deviations, so that there are forty modes indeed.

Hard for reverse KL: its gradient comes from where q already is, and between the modes log p
falls by a hundred nats and more. A restart that misses a mode has no force towards it, and its
ELBO, off by the log of the share that it found, gives little warning. Forward KL with forty
components can hold all, if EM puts one component on each; one Gaussian covers everything and
is mostly empty.
"""

import random

import jax.numpy as jnp
import numpyro
import numpyro.distributions as dist

from vi_compare import Study

MODES = 40


def means():
    """(40, 2), by Python's own generator: the same numbers in any float width of JAX."""
    rng = random.Random(163)
    return jnp.array([[rng.uniform(-40, 40), rng.uniform(-40, 40)] for _ in range(MODES)])


def modes():
    parts = dist.Normal(means(), 1.0).to_event(1)
    return dist.MixtureSameFamily(dist.Categorical(probs=jnp.full(MODES, 1 / MODES)), parts)


def model():
    numpyro.sample("x", modes())


def exact(key, n):
    return {"x": modes().sample(key, (n,))}


study = Study(
    model,
    exact=exact,
    fits=["mvn/reverse-kl", "mvn/forward-kl", "mixture:4/reverse-kl", "mixture:40/forward-kl"],
    restarts=4,
)

if __name__ == "__main__":
    study.main()
