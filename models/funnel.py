"""Neal's funnel in ten dimensions: one coordinate sets the scale of the nine others.

v ~ N(0, 3), x_i ~ N(0, exp(v/2)) for i = 1..9 (second arguments are standard deviations).
From Neal (2003), Slice sampling, Annals of Statistics 31(3), section 8.

Hard for every Gaussian: the scale of x runs over four orders of magnitude, and all pairs are
uncorrelated, so a full covariance buys nothing. Reverse KL sits where the funnel is of one
width, is too sure of v and gives up its mouth; forward KL takes x as wide as the mouth
and floods the neck. The density has its one maximum far down the neck, at v = −40.5, where
there is no mass.
"""

import jax
import jax.numpy as jnp
import numpyro
import numpyro.distributions as dist

from vi_compare import Study

OTHERS = 9


def model():
    v = numpyro.sample("v", dist.Normal(0.0, 3.0))
    with numpyro.plate("others", OTHERS):
        numpyro.sample("x", dist.Normal(0.0, jnp.exp(v / 2)))


def exact(key, n):
    v_key, x_key = jax.random.split(key)
    v = 3 * jax.random.normal(v_key, (n,))
    return {"v": v, "x": jnp.exp(v / 2)[:, None] * jax.random.normal(x_key, (n, OTHERS))}


study = Study(
    model,
    exact=exact,
    fits=["diagonal/reverse-kl", "mvn/reverse-kl", "mvn/forward-kl", "mixture:4/reverse-kl"],
    restarts=8,
)

if __name__ == "__main__":
    study.main()
