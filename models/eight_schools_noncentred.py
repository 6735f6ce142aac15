"""Eight schools, non-centred: standardised effects, nearly independent of their scale.

The posterior of eight_schools_centred.py in other coordinates: theta = mu + tau · z with a
standard normal z. Data: Rubin (1981), Estimation in parallel randomized experiments, Journal
of Educational Statistics 6(4), 377–401.

Easy where the centred form is hard: the data say little about each school, so z stays close to
its prior, and even independent normals come near. What is left for a Gaussian to miss is the
skewness of log tau. The fits are those of the centred script, so that the pages can be
laid side by side.
"""

import jax.numpy as jnp
import numpyro
import numpyro.distributions as dist

from vi_compare import Study

data = {
    "effect": jnp.array([28.0, 8.0, -3.0, 7.0, -1.0, 1.0, 18.0, 12.0]),
    "error": jnp.array([15.0, 10.0, 16.0, 11.0, 9.0, 11.0, 10.0, 18.0]),
}


def model(effect, error):
    mu = numpyro.sample("mu", dist.Normal(0.0, 5.0))
    tau = numpyro.sample("tau", dist.HalfCauchy(5.0))
    with numpyro.plate("schools", len(error)):
        z = numpyro.sample("z", dist.Normal(0.0, 1.0))
        theta = numpyro.deterministic("theta", mu + tau * z)
        numpyro.sample("observed", dist.Normal(theta, error), obs=effect)


study = Study(
    model,
    data=data,
    coords={"schools": list("ABCDEFGH")},
    fits=["diagonal/reverse-kl", "mvn/reverse-kl", "mixture:2/reverse-kl", "mvn/forward-kl"],
    restarts=8,
)

if __name__ == "__main__":
    study.main()
