"""EM against a naive textbook version that shares no code with it."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from oracles import textbook_em

from vi_compare import catalogue
from vi_compare.divergences.forward_kl import ForwardKL
from vi_compare.families import GaussianMixture
from vi_compare.run.labels import parse_part
from vi_compare.solvers import Problem
from vi_compare.solvers._em import em, kmeans_start
from vi_compare.target import Target

run = jax.jit(partial(em), static_argnames=("iterations", "diagonal"))


def data(n=1500, seed=0):
    """Two overlapping clusters in the plane, far from the origin and on unequal scales."""
    rng = np.random.default_rng(seed)
    part = rng.random(n) < 0.35
    x = rng.normal(size=(n, 2)) @ np.array([[1.0, 0.4], [0.0, 0.7]])
    x[part] = x[part] * 0.5 + [2.5, -1.0]
    return x * [1.0, 30.0] + [50.0, -200.0]


def start(x, k=2):
    rng = np.random.default_rng(1)
    means = x[rng.choice(len(x), k, replace=False)]
    return GaussianMixture(np.full(k, 1 / k), means, np.stack([np.cov(x.T)] * k))


def as_jax(mixture):
    return GaussianMixture(*map(jnp.asarray, mixture))


@pytest.mark.parametrize("diagonal", [False, True])
def test_it_is_the_textbook_em(diagonal):
    x = data()
    begin = start(x)
    if diagonal:
        begin = begin._replace(covariances=begin.covariances * np.eye(2))
    ours = run(x, as_jax(begin), iterations=40, tolerance=-1.0, floor=0.0, diagonal=diagonal)
    weights, means, covariances, trace = textbook_em(x, *begin, iterations=40, diagonal=diagonal)
    # Moments of whitened draws lose a few digits: 1e-12 times 40 iterations, generously.
    np.testing.assert_allclose(ours.log_likelihood, trace, atol=1e-8)
    np.testing.assert_allclose(ours.mixture.weights, weights, atol=1e-8)
    np.testing.assert_allclose(ours.mixture.means, means, rtol=1e-8)
    np.testing.assert_allclose(ours.mixture.covariances, covariances, rtol=1e-6, atol=1e-12)
    assert int(ours.iterations) == 40


def test_the_likelihood_never_falls():
    x = data(seed=3)
    for seed in range(4):
        begin = kmeans_start(jnp.asarray(x), jax.random.key(seed), 4)
        trace = np.asarray(run(x, begin, iterations=200, tolerance=1e-9, floor=0.0).log_likelihood)
        trace = trace[np.isfinite(trace)]
        assert len(trace) > 5
        assert np.diff(trace).min() > -1e-10


def test_it_stops_by_the_tolerance_and_says_how():
    x = data()
    found = run(x, as_jax(start(x)), iterations=500, tolerance=1e-7, floor=0.0)
    used = int(found.iterations)
    assert used < 500
    assert 0 <= float(found.gain) <= 1e-7
    trace = np.asarray(found.log_likelihood)
    assert np.isfinite(trace[:used]).all()
    assert np.isnan(trace[used:]).all()


def test_one_component_is_mean_and_covariance():
    x = data()
    found = run(x, as_jax(start(x, 1)), iterations=3, tolerance=-1.0, floor=0.0).mixture
    np.testing.assert_allclose(found.means[0], x.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(found.covariances[0], np.cov(x.T, ddof=0), rtol=1e-9)
    np.testing.assert_allclose(found.weights, [1.0])


def test_an_empty_component_is_revived():
    x = data()
    begin = start(x)
    far = begin._replace(means=np.stack([begin.means[0], begin.means[0] + 1e4]))
    found = run(x, as_jax(far), iterations=300, tolerance=1e-9, floor=1e-6)
    assert int(found.revived) >= 1
    assert float(found.mixture.weights.min()) > 0.01
    # and it ends as well as from a good start
    good = run(x, as_jax(begin), iterations=300, tolerance=1e-9, floor=1e-6)
    last = lambda result: np.nanmax(np.asarray(result.log_likelihood))
    assert last(found) > last(good) - 1e-3


def test_duplicates_of_one_draw_stay_finite_by_the_floor():
    x = np.concatenate([data(300), np.tile([[60.0, 0.0]], (50, 1))])
    begin = start(x)
    begin = begin._replace(means=np.stack([x.mean(axis=0), [60.0, 0.0]]))
    found = run(x, as_jax(begin), iterations=500, tolerance=0.0, floor=1e-6)
    assert all(np.isfinite(leaf).all() for leaf in found.mixture)
    smallest = [np.linalg.eigvalsh(c)[0] for c in np.asarray(found.mixture.covariances)]
    scale = np.linalg.eigvalsh(np.cov(x.T))[0]
    # the floor is a share of the draws' own covariance, in every direction
    assert min(smallest) > 0.5 * 1e-6 * scale
    lone = int(np.argmin(smallest))
    assert found.mixture.weights[lone] == pytest.approx(50 / 350, abs=1e-3)


def test_an_affine_map_of_the_draws_maps_the_result():
    x = data()
    begin = start(x)
    a, b = np.array([[0.03, 0.01], [-2.0, 5.0]]), np.array([7.0, -3.0])
    plain = run(x, as_jax(begin), iterations=60, tolerance=-1.0, floor=1e-4)
    moved_start = GaussianMixture(
        begin.weights, begin.means @ a.T + b, np.einsum("ij,kjl,ml->kim", a, begin.covariances, a)
    )
    moved = run(x @ a.T + b, as_jax(moved_start), iterations=60, tolerance=-1.0, floor=1e-4)
    np.testing.assert_allclose(moved.mixture.weights, plain.mixture.weights, atol=1e-8)
    np.testing.assert_allclose(moved.mixture.means, plain.mixture.means @ a.T + b, rtol=1e-7)
    shift = -np.linalg.slogdet(a)[1]
    np.testing.assert_allclose(moved.log_likelihood, plain.log_likelihood + shift, atol=1e-8)


@pytest.mark.parametrize("k", [1, 3])
def test_starts_are_mixtures_of_the_draws(k):
    x = jnp.asarray(data())
    starts = [kmeans_start(x, jax.random.key(seed), k, seed == 2) for seed in range(3)]
    for mixture in starts:
        assert float(mixture.weights.sum()) == pytest.approx(1.0)
        assert np.linalg.eigvalsh(np.asarray(mixture.covariances)).min() > 0
        # hard assignment: the component means average to the mean of the draws
        overall = np.asarray(mixture.weights) @ np.asarray(mixture.means)
        np.testing.assert_allclose(overall, np.mean(x, axis=0), rtol=1e-6)


@pytest.mark.parametrize("seed", range(3))
def test_auto_has_as_many_components_as_pay_on_unseen_draws(seed):
    """Two peaks ten standard deviations apart: two components are the truth, and four gain at most
    what they over-fit, which draws set aside charge."""
    peaks = dist.MixtureSameFamily(
        dist.Categorical(probs=jnp.array([0.3, 0.7])), dist.Normal(jnp.array([-5.0, 5.0]), 1.0)
    )
    target = Target(lambda: numpyro.sample("x", peaks))
    u = peaks.sample(jax.random.key(seed), (4000,))
    guide = parse_part("guides", "mixture:auto").build(target.model)
    loss = ForwardKL(target.draws({"x": u}))
    solver = catalogue.load("solvers", "moments").build()
    fit = solver.solve(Problem.of(target, guide, loss, jax.random.key(seed), 8))
    assert fit.settings["components"] == 2
    assert fit.message.startswith("2 components; ")
    weights = np.sort(np.asarray(fit.approximation.mixture().weights))
    # The standard error of a weight from 4,000 draws is 0.007; five of them fail once in a million.
    np.testing.assert_allclose(weights, [0.3, 0.7], atol=0.036)
