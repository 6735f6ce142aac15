"""The stochastic solver: what it says when a density is not a number, and its optimum."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from numpyro.infer.autoguide import AutoMultivariateNormal

from vi_compare.divergences.reverse_kl import ReverseKL
from vi_compare.solvers import Problem, svi
from vi_compare.solvers._loop import Pace, Trajectory
from vi_compare.target import Target


def half_broken():
    """A well at −1; right of 1 it climbs to where the likelihood is not a number."""
    x = numpyro.sample("x", dist.Normal(0.0, 10.0))
    well = -0.5 * ((x + 1) / 0.2) ** 2
    climb = 6.0 * x
    numpyro.factor("likelihood", jnp.where(x > 1.5, jnp.nan, jnp.where(x > 1, climb, well)))


def broken():
    """Wherever it starts, it climbs outwards to where the likelihood is not a number."""
    x = numpyro.sample("x", dist.Normal(0.0, 10.0))
    numpyro.factor("likelihood", jnp.where(jnp.abs(x) > 3, jnp.nan, 6.0 * jnp.abs(x)))


def solved(model, steps=2400, restarts=8):
    target, guide = Target(model), AutoMultivariateNormal(model)
    return svi.build(steps=steps).solve(
        Problem.of(target, guide, ReverseKL(4), jax.random.key(1), restarts)
    )


@pytest.fixture(scope="module")
def survived():
    return solved(half_broken, steps=20_000, restarts=16)


def test_a_restart_that_breaks_says_at_which_step_site_and_point(survived):
    ended = [row.status for row in survived.restarts]
    broke = [s for s in ended if s != "finished"]
    assert broke
    assert "finished" in ended
    for status in broke:
        assert status.startswith("step ")
        assert "site 'likelihood'" in status
        assert "NaN" in status
        point = float(status.rpartition("x = ")[2].replace("−", "-"))
        assert point > 1.5


def test_the_restarts_that_live_decide(survived):
    """The well is N(−1, 0.2²) but for the flat prior: mean −1 (1 − 0.0004), sd 0.2."""
    assert survived.restarts[survived.chosen].status == "finished"
    assert survived.status == "converged"
    q = survived.approximation
    _, means, covariances = q.family.to_mixture(q.params, q.target)
    precision = 1 / 0.2**2 + 1 / 10.0**2
    mean, sd = -(1 / 0.2**2) / precision, precision**-0.5
    # six standard errors of the averaged iterates, as the fit itself gives them
    error = 6 * np.sqrt(np.diag(survived.covariance))
    assert abs(float(means[0, 0]) - mean) < error[0] + 1e-9
    assert abs(float(np.sqrt(covariances[0, 0, 0])) - sd) < error[1] + 1e-9
    assert error.max() < 0.05


def test_when_every_restart_breaks_the_fit_failed():
    fit = solved(broken)
    assert fit.status == "failed"
    assert fit.approximation is None
    assert "every restart broke down" in fit.message
    assert "site 'likelihood'" in fit.message
    assert all(row.loss is None and row.basin is None for row in fit.restarts)


def test_too_few_steps_are_called_too_few():
    def model():
        numpyro.sample("x", dist.Normal(0.0, 1.0))

    fit = solved(model, steps=400, restarts=2)
    assert fit.status == "not converged"
    assert "svi:steps=" in fit.remedy


def test_restarts_begin_apart_and_the_same_key_gives_the_same_fit():
    def model():
        numpyro.sample("x", dist.Normal(0.0, 1.0))

    target, guide = Target(model), AutoMultivariateNormal(model)
    solver, loss = svi.build(steps=400), ReverseKL(4)
    solve = lambda k: solver.solve(Problem.of(target, guide, loss, jax.random.key(k), 2))
    one, two, other = map(solve, (3, 3, 4))
    assert np.array_equal(one.losses, two.losses, equal_nan=True)
    assert not np.array_equal(one.losses, other.losses, equal_nan=True)
    assert one.losses[0, 0] != one.losses[1, 0]


def test_what_can_no_longer_become_the_best_keeps_nobody_waiting():
    """One restart is far out and halves its distance in every half window: from 10⁶ nats to the
    0.1 that the best is known to, that takes 23 of them. It is waited for once as many lie behind
    it as before it, and not sooner; one that needs no longer than that is waited for at once."""
    pace = Pace(chunk=200, window=6)

    def still(far: float, chunks: int) -> bool:
        seen = Trajectory(pace, failed=np.full(2, "", dtype=object))
        for chunk in range(chunks):
            # The best swings with the period of half a window: it does not fall, and its error is
            # 0.1 / √2, from the variance 0.1² · 3/4 of three such values.
            best = 0.1 * np.cos(2 * np.pi * chunk / pace.half)
            behind = far * 0.5 ** (chunk / pace.half)
            seen.losses.append(np.tile([[best], [behind]], pace.chunk))
        fall, error = seen.fall()
        assert fall[1] > 2 * error[1]
        assert error[0] == pytest.approx(0.1 / np.sqrt(2))
        return seen.still()

    assert still(1e6, chunks=12)
    assert still(1e6, chunks=30)
    assert not still(1e6, chunks=54)
    assert not still(10.0, chunks=12)
