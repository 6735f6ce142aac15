"""A bent Gaussian ridge in the plane: uncorrelated, and yet far from independent.

x ~ N(0, 10), y given x ~ N(B (100 − x²), 1) (second arguments are standard deviations), with
the strong bend B = 0.1. From Haario, Saksman and Tamminen (1999), Adaptive proposal
distribution for random walk Metropolis algorithm, Computational Statistics 14, 375–395.

Hard for one Gaussian: by reverse KL it lies across the top of the ridge and drops both arms,
by forward KL it fills the inside of the bend, where the target has nothing. A few Gaussians
tile the ridge, and the number of them is what can be traded.
"""

import jax
import numpyro
import numpyro.distributions as dist

from vi_compare import Study

BEND = 0.1


def model():
    x = numpyro.sample("x", dist.Normal(0.0, 10.0))
    numpyro.sample("y", dist.Normal(BEND * (100 - x**2), 1.0))


def exact(key, n):
    x_key, y_key = jax.random.split(key)
    x = 10 * jax.random.normal(x_key, (n,))
    return {"x": x, "y": BEND * (100 - x**2) + jax.random.normal(y_key, (n,))}


study = Study(
    model,
    exact=exact,
    fits=["mvn/reverse-kl", "mvn/forward-kl", "mixture:4/reverse-kl", "mixture:8/forward-kl"],
)

if __name__ == "__main__":
    study.main()
