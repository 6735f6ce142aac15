"""A model that sees minibatches: trained on them, measured on all of its data."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist

from vi_compare import Settings, Study

ROWS, BATCH, NOISE = 200, 20, 2.0
Y = np.random.default_rng(0).normal(1.5, NOISE, ROWS)


def model(y):
    mu = numpyro.sample("mu", dist.Normal(0.0, 3.0))
    with numpyro.plate("rows", ROWS, subsample_size=BATCH) as rows:
        numpyro.sample("y", dist.Normal(mu, NOISE), obs=jnp.asarray(y)[rows])


def posterior() -> tuple[float, float, float]:
    """Mean, sd and log evidence of the conjugate model on all rows, by NumPy."""
    precision = 1 / 9 + ROWS / NOISE**2
    mean = Y.sum() / NOISE**2 / precision
    covariance = NOISE**2 * np.eye(ROWS) + 9 * np.ones((ROWS, ROWS))
    _, log_det = np.linalg.slogdet(2 * np.pi * covariance)
    return mean, precision**-0.5, -0.5 * (log_det + Y @ np.linalg.solve(covariance, Y))


def test_a_minibatch_model_is_fitted_to_the_posterior_of_all_rows():
    mean, sd, log_z = posterior()
    exact = lambda key, n: {"mu": mean + sd * jax.random.normal(key, (n,))}
    study = Study(model, data={"y": Y}, exact=exact, fits=["mvn/reverse-kl"], name="minibatch")
    comparison = study.run(Settings(draws=4000, restarts=2))
    fit = comparison.fits[0]
    assert comparison.results["target"]["reference"]["doubts"] == []
    m = fit["mixture"]["means"][0][0]
    s = fit["mixture"]["covariances"][0][0][0] ** 0.5
    kl = np.log(sd / s) + (s**2 + (m - mean) ** 2) / (2 * sd**2) - 0.5
    # One step sees a tenth of the rows: its gradient has an sd of about 3/sd. Averaged over
    # the last 6,000 steps that leaves less than 0.05 sd in the mean, 1e-3 nats.
    assert kl < 5e-3
    known = comparison.results["target"]["log_normalizer"]
    assert abs(known["value"] - log_z) < 5 * known["standard_error"]
    # On a minibatch log p would be off by the noise of its log likelihood, some 15 nats.
    elbo = fit["metrics"]["elbo"]
    assert abs(elbo["value"] - (log_z - kl)) < 5 * elbo["standard_error"] + 1e-6
