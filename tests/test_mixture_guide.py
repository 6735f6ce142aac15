"""AutoGaussianMixture: parameters and mixtures, quantiles, order of sites, saved parameters."""

from __future__ import annotations

import json

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from oracles import Line
from scipy import special, stats
from targets import approximation, away

from vi_compare import families
from vi_compare.approximation import GuideApproximation, set_up
from vi_compare.families import GaussianMixture
from vi_compare.guides.mixture import AutoGaussianMixture
from vi_compare.target import Target


def backwards():
    """Sites whose alphabetical order is not the order of the model, of several sizes."""
    numpyro.sample("c", dist.Normal(0.0, 1.0).expand([3]).to_event(1))
    numpyro.sample("b", dist.LogNormal(0.0, 1.0))
    numpyro.sample("a", dist.Normal(0.0, 1.0).expand([2]).to_event(1))


TARGET = Target(backwards)


def some_mixture(k=3, d=6, seed=0) -> GaussianMixture:
    rng = np.random.default_rng(seed)
    factor = rng.normal(size=(k, d, d))
    covariances = factor @ np.swapaxes(factor, 1, 2) + 0.3 * np.eye(d)
    weights = rng.dirichlet(np.ones(k) * 3)
    return GaussianMixture(weights, rng.normal(size=(k, d)), covariances)


@pytest.fixture(scope="module")
def guide():
    made = AutoGaussianMixture(backwards, 3)
    set_up(made, TARGET, jax.random.key(0))
    return made


def test_from_mixture_and_to_mixture_are_inverse(guide):
    mixture = some_mixture()
    params = families.family(guide).from_mixture(
        GaussianMixture(*map(jnp.asarray, mixture)), TARGET
    )
    for ours, given in zip(families.family(guide).to_mixture(params, TARGET), mixture, strict=True):
        # one Cholesky factorisation of a matrix of condition number ~100
        np.testing.assert_allclose(ours, given, atol=1e-12)


@pytest.mark.parametrize("name", ["normal", "diagonal", "mvn"])
def test_a_single_gaussian_takes_the_moments(name):
    weights, means, covariances = some_mixture(1)
    q = approximation(name, TARGET)
    mixture = GaussianMixture(*map(jnp.asarray, (weights, means, covariances)))
    params = q.family.from_mixture(mixture, TARGET)
    found = q.family.to_mixture(params, TARGET)
    wanted = covariances[0] if name == "mvn" else np.diag(np.diag(covariances[0]))
    np.testing.assert_allclose(found.means[0], means[0], atol=1e-12)
    np.testing.assert_allclose(found.covariances[0], wanted, atol=1e-12)
    assert params.keys() == q.params.keys()


def test_the_density_is_that_of_the_mixture(guide):
    mixture = some_mixture(seed=2)
    params = families.family(guide).from_mixture(
        GaussianMixture(*map(jnp.asarray, mixture)), TARGET
    )
    u = np.random.default_rng(1).normal(size=(20, 6)) * 3
    truth = special.logsumexp(
        [
            np.log(w) + stats.multivariate_normal(m, c).logpdf(u)
            for w, m, c in zip(*mixture, strict=True)
        ],
        axis=0,
    )
    ours = jax.vmap(GuideApproximation(guide, params, TARGET).log_prob)(u)
    np.testing.assert_allclose(ours, truth, rtol=1e-10)


@pytest.mark.parametrize("name", ["normal", "diagonal", "mvn", "lowrank", "mixture"])
def test_each_site_gets_its_own_part_of_the_vector(name):
    """NumPyro draws through the guide itself; our means over u must be the means of those.

    Six coordinates within 4.5 standard errors: one false alarm in 25,000 seeds."""
    q = approximation(name, TARGET, seed=7, size=1.0)
    _, means, covariances = (np.asarray(a) for a in _mixture(q))
    weights = np.asarray(_mixture(q).weights)
    mean = weights @ means
    variance = weights @ (np.diagonal(covariances, axis1=1, axis2=2) + means**2) - mean**2
    draw = lambda key: q.guide.sample_posterior(key, q.params)
    theirs = jax.jit(jax.vmap(draw))(jax.random.split(jax.random.key(1), 4000))
    flat = np.concatenate([theirs["c"], np.log(theirs["b"])[:, None], theirs["a"]], axis=1)
    assert np.abs((flat.mean(axis=0) - mean) / np.sqrt(variance / 4000)).max() < 4.5
    assert np.ptp(mean) > 0.5  # equal means would hide a wrong order


def _mixture(q):
    return q.family.to_mixture(q.params, q.target)


def test_quantiles_are_those_of_the_mixture(guide):
    mixture = some_mixture(seed=4)
    params = families.family(guide).from_mixture(
        GaussianMixture(*map(jnp.asarray, mixture)), TARGET
    )
    levels = [1e-6, 0.05, 0.5, 0.9, 1 - 1e-6]
    ours = guide.quantiles(params, levels)
    ours = np.concatenate([ours["c"], np.log(ours["b"])[:, None], ours["a"]], axis=1)
    sds = np.sqrt(np.diagonal(mixture.covariances, axis1=1, axis2=2))
    for i in range(6):
        margin = Line(mixture.weights, mixture.means[:, i], sds[:, i])
        truth = [margin.quantile(level) for level in levels]
        # 1 − 1e-6 is a float to 1e-16, over a density of 1e-6: 1e-10
        np.testing.assert_allclose(ours[:, i], truth, atol=1e-8)
    median = guide.median(params)
    np.testing.assert_allclose(median["c"], ours[2, :3], atol=1e-12)


def test_saved_parameters_give_the_same_density_bit_for_bit(guide):
    moved, constrain = away(guide, TARGET, 9)
    params = constrain(moved)
    text = json.dumps({name: np.asarray(value).tolist() for name, value in params.items()})
    read = {name: jnp.asarray(value) for name, value in json.loads(text).items()}
    u = jnp.asarray(np.random.default_rng(0).normal(size=(7, 6)))
    one, two = (jax.vmap(GuideApproximation(guide, p, TARGET).log_prob)(u) for p in (params, read))
    assert np.array_equal(one, two)


@pytest.mark.parametrize(
    ("k", "scale", "words"), [(0, 1.0, "num_components"), (2, 0.0, "init_scale")]
)
def test_impossible_settings_are_refused(k, scale, words):
    with pytest.raises(ValueError, match=words):
        AutoGaussianMixture(backwards, k, init_scale=scale)


def test_restarts_begin_apart(guide):
    moved, constrain = away(guide, TARGET)
    points = jnp.arange(72.0).reshape(12, 6)
    first, second = (
        families.family(guide).spread(constrain(moved), TARGET, jax.random.key(k), points)
        for k in (0, 1)
    )
    rows = {tuple(row) for row in np.asarray(first["auto_locs"])}
    assert len(rows) == 3
    assert rows <= {tuple(row) for row in np.asarray(points)}
    assert not np.array_equal(first["auto_locs"], second["auto_locs"])
