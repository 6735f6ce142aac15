"""Logistic regression of 569 tumours on 30 measurements: many dimensions, strong correlations.

Street, Wolberg and Mangasarian (1993), Nuclear feature extraction for breast tumor diagnosis,
SPIE 1905 (Wisconsin diagnostic breast cancer data), as scikit-learn ships it, which this script
therefore needs. Every predictor is standardised to mean 0 and standard deviation 1; intercept
and coefficients have independent N(0, 10) priors; 31 latents.

Hard for independent normals: several measurements are nearly functions of each other (radius,
perimeter, area), so their coefficients are tied together, and reverse KL takes the
conditional widths. The classes are almost separable, so the posterior is wide, skewed and leans
on the prior; one Gaussian with full covariance comes close, not all the way.
"""

import jax.numpy as jnp
import numpyro
import numpyro.distributions as dist

from vi_compare import Study


def data():
    from sklearn.datasets import load_breast_cancer

    x, benign = load_breast_cancer(return_X_y=True)
    return {"x": jnp.array((x - x.mean(axis=0)) / x.std(axis=0)), "benign": jnp.array(benign)}


def coords():
    from sklearn.datasets import load_breast_cancer

    return {"feature": load_breast_cancer().feature_names}


def model(x, benign):
    intercept = numpyro.sample("intercept", dist.Normal(0.0, 10.0))
    coefficients = numpyro.sample(
        "coefficients", dist.Normal(0.0, 10.0).expand([x.shape[1]]).to_event(1)
    )
    with numpyro.plate("tumours", len(benign)):
        logits = intercept + x @ coefficients
        numpyro.sample("benign", dist.Bernoulli(logits=logits), obs=benign)


study = Study(
    model,
    data=data,
    coords=coords,
    dims={"coefficients": ["feature"]},
    fits=["diagonal/reverse-kl", "laplace/reverse-kl", "mvn/reverse-kl", "mvn/forward-kl"],
    restarts=2,
)

if __name__ == "__main__":
    study.main()
