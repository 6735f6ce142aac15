"""Eight schools, centred: the effects are latent as they are, and make a funnel with their scale.

Rubin (1981), Estimation in parallel randomized experiments, Journal of Educational Statistics
6(4), 377–401: estimated effects of coaching and their standard errors in eight schools, in the
form of Gelman et al., Bayesian data analysis, 3rd edition, section 5.5.

Hard for Gaussians: where tau is small the effects must all be close to mu, so their width
depends on tau. Reverse KL stays in the wide part and is too sure that tau is not small.
The same posterior is easy in the coordinates of eight_schools_noncentred.py; see Papaspiliopoulos,
Roberts and Sköld (2007), Statistical Science 22(1), and Yao, Vehtari, Simpson and Gelman (2018),
Yes, but did it work?, ICML.
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
        theta = numpyro.sample("theta", dist.Normal(mu, tau))
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
