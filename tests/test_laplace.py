"""The Laplace approximation and its solver, against closed forms and numpy."""

from __future__ import annotations

import re

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from scipy import optimize

from vi_compare.divergences.forward_kl import ForwardKL
from vi_compare.divergences.reverse_kl import ReverseKL
from vi_compare.guides import laplace, mvn
from vi_compare.scores import PointScores
from vi_compare.solvers import Problem, mode
from vi_compare.target import Target


def solved(model, restarts=16, **options):
    target = Target(model)
    return mode.build(**options).solve(
        Problem.of(target, laplace.build(model), ReverseKL(), jax.random.key(0), restarts)
    )


def mixture_of(fit):
    q = fit.approximation
    return q.family.to_mixture(q.params, q.target)


def backwards():
    """A Gaussian over sites whose alphabetical order is not the model's, on many scales."""
    numpyro.sample("c", dist.MultivariateNormal(jnp.asarray(MEAN), jnp.asarray(COVARIANCE)))
    numpyro.sample("b", dist.LogNormal(-0.3, 0.01))
    numpyro.sample("a", dist.Normal(jnp.array([40.0, 1.0]), jnp.array([30.0, 0.2])).to_event(1))


MEAN = np.array([0.7, -0.4, 2.0])
COVARIANCE = np.array([[0.6, 0.5, 0.0], [0.5, 1.2, 0.3], [0.0, 0.3, 9.0]])


def test_on_a_gaussian_it_is_the_target():
    fit = solved(backwards)
    assert fit.status == "converged"
    assert "16 of 16 starts" in fit.message
    assert "not an optimum" in fit.message
    _, means, covariances = mixture_of(fit)
    scales = np.array([0.01, 30.0, 0.2])
    truth = np.zeros((6, 6))
    truth[:3, :3], truth[3:, 3:] = COVARIANCE, np.diag(scales**2)
    sds = np.sqrt(np.diag(truth))
    # The mode to 1e-4 sd, as the tolerance asks; one inverse of condition number 1e7.
    np.testing.assert_allclose(means[0] / sds, np.r_[MEAN, -0.3, 40.0, 1.0] / sds, atol=1e-4)
    np.testing.assert_allclose(covariances[0] / np.outer(sds, sds), truth / np.outer(sds, sds),
                               atol=1e-8)  # fmt: skip
    draws = fit.approximation.sample(jax.random.key(1), 1000)
    # 1e-4 sd off in six coordinates, at most 4 sd out: 2.4e-3 nats
    np.testing.assert_allclose(draws.log_q, draws.log_p, atol=2.4e-3)


COUNTS = np.array([3.0, 0.0, 5.0, 2.0])


def poisson():
    rate = numpyro.sample("rate", dist.Gamma(2.0, 1.5))
    numpyro.sample("y", dist.Poisson(rate), obs=jnp.asarray(COUNTS))


def test_the_jacobian_of_u_counts():
    """Gamma posterior Γ(a, b) of a rate: over u = log rate, mode log(a/b), curvature a."""
    a, b = 2.0 + COUNTS.sum(), 1.5 + len(COUNTS)
    _, means, covariances = mixture_of(solved(poisson, 4))
    assert float(means[0, 0]) == pytest.approx(np.log(a / b), abs=1e-4 / np.sqrt(a))
    assert float(covariances[0, 0, 0]) == pytest.approx(1 / a, rel=1e-3)


def two_peaks():
    parts = dist.Normal(jnp.array([-3.0, 2.0]), jnp.array([0.3, 1.0]))
    numpyro.sample(
        "x", dist.MixtureSameFamily(dist.Categorical(probs=jnp.array([0.3, 0.7])), parts)
    )


def test_the_highest_mode_wins_and_the_starts_that_reached_it_are_counted():
    fit = solved(two_peaks)
    negative = lambda x: (
        -float(
            np.log(
                0.3 / 0.3 * np.exp(-0.5 * ((x + 3) / 0.3) ** 2) + 0.7 * np.exp(-0.5 * (x - 2) ** 2)
            )
        )
    )
    truth = optimize.minimize_scalar(negative, bracket=(-3.1, -2.9), tol=1e-12).x
    assert float(mixture_of(fit).means[0, 0]) == pytest.approx(truth, abs=1e-4)
    basins = [row.basin for row in fit.restarts]
    assert set(basins) == {0, 1}
    assert f"{basins.count(0)} of 16 starts" in fit.message
    losses = {row.basin: row.loss for row in fit.restarts}
    assert losses[0] < losses[1]
    assert fit.restarts[fit.chosen].basin == 0


def schools():
    """Centred eight schools: log p rises without bound as tau goes to 0."""
    mu = numpyro.sample("mu", dist.Normal(0.0, 5.0))
    tau = numpyro.sample("tau", dist.HalfCauchy(5.0))
    theta = numpyro.sample("theta", dist.Normal(mu, tau).expand([8]).to_event(1))
    y = jnp.array([28.0, 8.0, -3.0, 7.0, -1.0, 1.0, 18.0, 12.0])
    numpyro.sample("y", dist.Normal(theta, 15.0).to_event(1), obs=y)


def flat_valley():
    z = numpyro.sample("z", dist.ImproperUniform(dist.constraints.real_vector, (), (2,)))
    numpyro.factor("valley", -0.5 * (z[0] - z[1]) ** 2)


def explosive():
    numpyro.factor("climb", jnp.exp(numpyro.sample("x", dist.Normal(0.0, 1.0))))


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (schools, "without bound"),
        (flat_valley, "not positive definite .* along site 'z'"),
        (explosive, "not a finite number"),
    ],
)
def test_where_there_is_no_mode_the_fit_failed_in_words(model, words):
    fit = solved(model, 4)
    assert fit.status == "failed"
    assert fit.approximation is None
    assert "no start of 4 reached a mode" in fit.message
    assert all(row.loss is None and row.basin is None for row in fit.restarts)
    assert re.search(words, fit.message)


def half_endless():
    """A proper mode at −1, and right of 1 a climb that never ends."""
    x = numpyro.sample("x", dist.ImproperUniform(dist.constraints.real, (), ()))
    numpyro.factor("f", jnp.where(x > 0.5, 2.0 * x, -0.5 * ((x + 1) / 0.3) ** 2))


def test_a_mode_below_a_climb_without_end_is_not_called_converged():
    fit = solved(half_endless)
    assert fit.status == "not converged"
    assert "rose above it without reaching a mode" in fit.message
    assert float(mixture_of(fit).means[0, 0]) == pytest.approx(-1.0, abs=1e-4)


def minibatch():
    x = numpyro.sample("x", dist.Normal(0.0, 1.0))
    with numpyro.plate("rows", 10, subsample_size=2) as rows:
        numpyro.sample("y", dist.Normal(x, 1.0), obs=jnp.zeros(10)[rows])


def test_a_minibatch_has_no_mode():
    fit = solved(minibatch, 2)
    assert fit.status == "failed"
    assert "'rows'" in fit.message


def test_evaluations_are_counted():
    """As many as the model was asked for: counted by a callback inside it."""
    calls = {"n": 0}

    def count():
        calls["n"] += 1

    def model():
        x = numpyro.sample("x", dist.Normal(jnp.zeros(3), 1.0).to_event(1))
        jax.debug.callback(count)
        numpyro.factor("f", -jnp.sum(x**4))

    target = Target(model)
    scores = PointScores(target)
    mode.build(100, 1e-4).ascend(scores, np.array([1.0, -1.5, 0.5]))
    jax.effects_barrier()
    curvatures = (scores.gradients - scores.densities) / target.dim
    # one callback per value-and-gradient; a curvature calls it once, or once per column
    assert scores.densities < calls["n"] <= scores.densities + curvatures * target.dim
    assert curvatures >= 1


def test_only_its_own_guide_and_divergence_suit():
    guide = laplace.build(two_peaks)
    draws = Target(two_peaks).draws({"x": jnp.zeros(4)})
    assert mode.suits(guide, ReverseKL()) == 3
    assert mode.suits(guide, ForwardKL(draws)) is None
    assert mode.suits(guide, None) is None
    assert mode.suits(mvn.build(two_peaks), ReverseKL()) is None
