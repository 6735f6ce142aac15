"""What all solvers share: telling restarts apart."""

from __future__ import annotations

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
from numpyro.infer.autoguide import AutoMultivariateNormal
from scipy import stats
from targets import plane

from vi_compare.approximation import GuideApproximation, set_up
from vi_compare.solvers._restarts import SAME_BASIN, jeffreys, log_probs
from vi_compare.target import Target

MEANS = np.array([[0.0, 0.0], [0.1, 0.0], [3.0, -1.0]])
TRILS = np.array([np.eye(2), [[1.08, 0.0], [0.12, 1.0]], [[0.5, 0.0], [0.3, 2.0]]])
SEEDS = 40


@cache
def gaussians() -> GuideApproximation:
    """Three restarts, two of them near each other."""
    target, guide = Target(plane), AutoMultivariateNormal(plane)
    set_up(guide, target, jax.random.key(0))
    params = {"auto_loc": jnp.asarray(MEANS), "auto_scale_tril": jnp.asarray(TRILS)}
    return GuideApproximation(guide, params, target)


def closed_form(i: int, j: int) -> float:
    """Symmetrised KL of two Gaussians, in nats."""
    a, b = (TRILS[k] @ TRILS[k].T for k in (i, j))
    inverse, move = np.linalg.inv([a, b]), MEANS[i] - MEANS[j]
    spread = np.trace(inverse[1] @ a) + np.trace(inverse[0] @ b) - 2 * len(move)
    return 0.5 * float(spread + move @ inverse.sum(axis=0) @ move)


def test_log_q_of_every_restart_is_scipys():
    u = np.random.default_rng(0).normal(size=(30, 2))
    truth = [
        stats.multivariate_normal(m, t @ t.T).logpdf(u) for m, t in zip(MEANS, TRILS, strict=True)
    ]
    np.testing.assert_allclose(log_probs(gaussians(), jnp.asarray(u)), truth, rtol=1e-12)


def test_the_distance_between_restarts_is_the_symmetrised_kl():
    """Three means over 40 seeds within 4 standard errors: one false alarm in 5,000 runs."""
    found = np.stack([jeffreys(gaussians(), jax.random.key(seed)) for seed in range(SEEDS)])
    np.testing.assert_array_equal(found, np.swapaxes(found, 1, 2))
    for i, j in ((0, 1), (0, 2), (1, 2)):
        each = found[:, i, j]
        assert abs(each.mean() - closed_form(i, j)) < 4 * each.std(ddof=1) / np.sqrt(SEEDS)


def test_near_the_threshold_chance_does_not_decide_what_is_one_optimum():
    """The restarts' draws are made of the same random numbers. Made of their own, log p/q
    would have the variance J under either where the symmetrised KL, J, is small, and two
    means of 250 would err by √(2J/250) together: half of J here. It is a sixth of that; more
    than a third has a chance below 1e-9, by the χ² of 40 squares."""
    near = closed_form(0, 1)
    assert 0.5 * SAME_BASIN < near < SAME_BASIN
    found = [jeffreys(gaussians(), jax.random.key(seed))[0, 1] for seed in range(SEEDS)]
    assert np.std(found, ddof=1) < np.sqrt(2 * near / 250) / 3
