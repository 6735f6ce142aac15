"""Linear regression with known noise: the posterior is Gaussian, so there is a right answer.

Sixty observations, six predictors of our own making, with scales from 0.3 to 3 and two of them
nearly the same; the prior of each coefficient is N(0, 2), the noise N(0, 1). Posterior and
evidence are in closed form (Bishop 2006, Pattern recognition and machine learning, section 3.3).

A full covariance is exact here, whatever the divergence: it should come out Faithful and its
ELBO should be the log evidence. Independent normals cannot hold the correlation of −0.98
that the near twins leave: by reverse KL they take the conditional standard deviations, more
than four times too small, by forward KL the marginal ones.
"""

import random

import jax
import jax.numpy as jnp
import numpyro
import numpyro.distributions as dist

from vi_compare import Study

PRIOR, NOISE = 2.0, 1.0
SCALES = (1.0, 1.0, 0.3, 0.6, 2.0, 3.0)
TRUTH = (1.0, -0.5, 2.0, 0.0, 0.3, -0.2)


def data():
    """Made by Python's own generator: the same numbers in any float width of JAX."""
    rng = random.Random(4)
    x = [[scale * rng.gauss(0, 1) for scale in SCALES] for _ in range(60)]
    for row in x:
        row[1] = row[0] + 0.2 * row[1]
    mean = [sum(b * v for b, v in zip(TRUTH, row, strict=True)) for row in x]
    return {"x": jnp.array(x), "y": jnp.array([m + NOISE * rng.gauss(0, 1) for m in mean])}


def model(x, y):
    coefficients = numpyro.sample(
        "coefficients", dist.Normal(0.0, PRIOR).expand([x.shape[1]]).to_event(1)
    )
    with numpyro.plate("observations", len(y)):
        numpyro.sample("y", dist.Normal(x @ coefficients, NOISE), obs=y)


def posterior():
    """Mean (6,) and the Cholesky factor (6, 6) of the precision."""
    x, y = data().values()
    tril = jnp.linalg.cholesky(x.T @ x / NOISE**2 + jnp.eye(x.shape[1]) / PRIOR**2)
    return jax.scipy.linalg.cho_solve((tril, True), x.T @ y / NOISE**2), tril


def exact(key, n):
    mean, tril = posterior()
    z = jax.random.normal(key, (len(mean), n))
    return {"coefficients": mean + jax.scipy.linalg.solve_triangular(tril.T, z).T}


def log_normalizer():
    """Log evidence: prior times likelihood, over posterior, at the posterior's mean."""
    (x, y), (mean, tril) = data().values(), posterior()
    prior = dist.Normal(0.0, PRIOR).log_prob(mean).sum()
    likelihood = dist.Normal(x @ mean, NOISE).log_prob(y).sum()
    log_density = jnp.log(jnp.diag(tril)).sum() - 0.5 * len(mean) * jnp.log(2 * jnp.pi)
    return prior + likelihood - log_density


study = Study(
    model,
    data=data,
    exact=exact,
    fits=["diagonal/reverse-kl", "diagonal/forward-kl", "lowrank:1/reverse-kl", "mvn/reverse-kl"],
    restarts=4,
)

if __name__ == "__main__":
    study.main()
