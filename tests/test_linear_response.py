"""Covariances by linear response, against what shares no code with the package: the inverse of a
precision, and the optima of tilted targets, found by scipy on Gauss-Hermite quadrature."""

from __future__ import annotations

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from numpyro.infer.autoguide import AutoDiagonalNormal, AutoMultivariateNormal, AutoNormal
from scipy import optimize

from vi_compare import Settings, Study, catalogue
from vi_compare.approximation import GuideApproximation, set_up
from vi_compare.divergences._linear_response import ResponseEffort, linear_response
from vi_compare.divergences.forward_kl import ForwardKL
from vi_compare.divergences.reverse_kl import ReverseKL
from vi_compare.evidence import Draws, Estimate, Evidence, Response
from vi_compare.target import Target

COVARIANCE = np.array([[1.0, 0.8, 0.3], [0.8, 2.0, -0.5], [0.3, -0.5, 1.5]])
RNG = np.random.default_rng


def mean_field(kind, model, mean, scales) -> GuideApproximation:
    guide, target = kind(model), Target(model)
    set_up(guide, target, jax.random.key(0))
    bare = GuideApproximation(guide, {}, target)
    params = bare.family.from_gaussian(np.asarray(mean), np.diag(scales), target)
    return GuideApproximation(guide, params, target)


def gaussian():
    # Two sites, so that the order of the parameters matters.
    z = numpyro.sample("z", dist.MultivariateNormal(jnp.zeros(2), COVARIANCE[1:, 1:]))
    gain = np.linalg.solve(COVARIANCE[1:, 1:], COVARIANCE[1:, 0])
    left = COVARIANCE[0, 0] - COVARIANCE[0, 1:] @ gain
    numpyro.sample("a", dist.Normal(z @ gain, np.sqrt(left)))


@pytest.mark.parametrize("kind", [AutoNormal, AutoDiagonalNormal])
def test_it_is_exact_for_a_gaussian(kind):
    """Mean field has scales 1/√Λ_ii, too small wherever there is a correlation; the sites are in
    the order z, a."""
    order = [1, 2, 0]
    truth = COVARIANCE[np.ix_(order, order)]
    scales = 1 / np.sqrt(np.diag(np.linalg.inv(truth)))
    assert (scales < 0.9 * np.sqrt(np.diag(truth))).all()
    found = ReverseKL().linear_response(mean_field(kind, gaussian, np.zeros(3), scales), RNG(0))
    for label, variance in zip(("z[0]", "z[1]", "a"), np.diag(truth), strict=True):
        sd = found.sds[label]
        assert sd.value == pytest.approx(np.sqrt(variance), rel=1e-10)
        assert sd.standard_error < 1e-6


# --- a skewed target ---------------------------------------------------------------------
# a = log y is the logarithm of a gamma, and b is normal about a multiple of it.

A, RATE, BEND, LEFT = 3.0, 3.0, 0.8, 0.6
NODES, WEIGHTS = np.polynomial.hermite_e.hermegauss(40)
Z = np.stack(np.meshgrid(NODES, NODES, indexing="ij"), axis=-1).reshape(-1, 2)
W = np.outer(WEIGHTS, WEIGHTS).ravel() / (2 * np.pi)


def skewed():
    y = numpyro.sample("y", dist.Gamma(A, RATE))
    a = numpyro.deterministic("log y", jnp.log(y))
    numpyro.sample("b", dist.Normal(BEND * a, LEFT))


def log_p(u: np.ndarray) -> np.ndarray:
    a, b = u[..., 0], u[..., 1]
    return A * a - RATE * np.exp(a) - (b - BEND * a) ** 2 / (2 * LEFT**2)


@cache
def optimum(tilt: tuple[float, float]) -> np.ndarray:
    """Means and log scales (4,) of the best mean field for log p(u) + tilt · u."""

    def loss(eta):
        u = eta[:2] + np.exp(eta[2:]) * Z
        return -eta[2:].sum() - W @ log_p(u) - np.dot(tilt, eta[:2])

    start = np.array([0.0, 0.0, -1.0, -1.0])
    rough = optimize.minimize(loss, start, method="BFGS", options={"gtol": 1e-6}).x

    def slope(eta):
        s = np.exp(eta[2:])
        u = eta[:2] + s * Z
        off = (u[:, 1] - BEND * u[:, 0]) / LEFT**2
        g = np.stack([A - RATE * np.exp(u[:, 0]) + BEND * off, -off], axis=1)
        return np.concatenate([-(W @ g) - tilt, -1 - W @ (g * s * Z)])

    return optimize.root(slope, rough, tol=1e-12).x


def response_by_differences(h: float = 1e-4) -> np.ndarray:
    """d means / d tilt (2, 2)."""
    sides = [[optimum(tuple(s * h * row))[:2] for s in (1, -1)] for row in np.eye(2)]
    return np.array([(up - down) / (2 * h) for up, down in sides])


def true_covariance() -> np.ndarray:
    a, b = np.meshgrid(np.linspace(-9, 4, 2001), np.linspace(-12, 9, 2001), indexing="ij")
    u = np.stack([a, b], axis=-1).reshape(-1, 2)
    weights = np.exp(log_p(u))
    weights /= weights.sum()
    off = u - weights @ u
    return (weights[:, None] * off).T @ off


@pytest.mark.parametrize("kind", [AutoNormal, AutoDiagonalNormal])
def test_it_is_how_the_means_of_a_skewed_target_answer_to_a_tilt(kind):
    """Differences of optima err by h², 1e-8; draws by the error that is said, here over seeds."""
    best = optimum((0.0, 0.0))
    q = mean_field(kind, skewed, best[:2], np.exp(best[2:]))
    truth = np.sqrt(np.diag(response_by_differences()))
    found = [linear_response(q, RNG(seed)) for seed in range(12)]
    # log y is a coordinate of u, and no site: a quantity of the study.
    sds = np.array([[f.sds[x].value for x in ("log y", "b")] for f in found])
    errors = np.array([[f.sds[x].standard_error for x in ("log y", "b")] for f in found])
    off, errors = sds / truth - 1, errors / truth
    print(f"\noff {off.mean(axis=0)}, spread {off.std(axis=0)}, said {errors.mean():.5f}")
    assert (abs(off) < 6 * errors).all()
    assert (off.std(axis=0) < 1.6 * errors.mean(axis=0)).all()
    assert errors.max() < 0.02


def test_of_a_value_it_is_how_its_own_mean_answers():
    """Tilted by t y, the gamma has the rate RATE − t; the best q gets the mean A/(RATE − t) of y
    right, and so its variance A/RATE². Draws of a Gaussian as wide would be lognormal, and have
    1.2 times the sd. Draws err as they say."""
    best = optimum((0.0, 0.0))
    q = mean_field(AutoNormal, skewed, best[:2], np.exp(best[2:]))
    for seed in range(12):
        found = linear_response(q, RNG(seed)).sds["y"]
        assert abs(found.value - np.sqrt(A) / RATE) < 6 * found.standard_error < 0.01


def test_it_is_nearer_to_the_truth_than_mean_field_where_the_target_is_skewed():
    best = optimum((0.0, 0.0))
    q = mean_field(AutoNormal, skewed, best[:2], np.exp(best[2:]))
    found = linear_response(q, RNG(0))
    true = np.sqrt(np.diag(true_covariance()))
    plain, corrected = (
        np.exp(best[2:]) / true,
        np.array([found.sds[x].value for x in ("log y", "b")]) / true,
    )
    print(f"\nsd ÷ true sd: mean field {plain}, linear response {corrected}")
    assert (plain < 0.85).all()
    assert (abs(corrected - 1) < 0.08).all()


# --- why there is none ---------------------------------------------------------------------


def bowl():
    """log p curves up between two peaks."""
    x = numpyro.sample("x", dist.Normal(0.0, 1.0).expand([2]).to_event(1))
    numpyro.factor("peaks", 3.0 * jnp.sum(x**2) - 0.1 * jnp.sum(x**4))


def test_it_says_why_there_is_none():
    full = AutoMultivariateNormal(gaussian)
    target = Target(gaussian)
    set_up(full, target, jax.random.key(0))
    params = {"auto_loc": jnp.zeros(3), "auto_scale_tril": jnp.eye(3)}
    q = mean_field(AutoNormal, gaussian, np.zeros(3), np.ones(3))
    ridge = mean_field(AutoNormal, bowl, np.zeros(2), np.full(2, 0.1))
    few = ResponseEffort(dimensions=2)
    for found, reason in (
        (ReverseKL().linear_response(GuideApproximation(full, params, target), RNG(0)), "alone"),
        (ForwardKL(jnp.zeros((8, 3))).linear_response(q, RNG(0)), "reverse KL alone"),
        (linear_response(q, RNG(0), few), "more than 2 dimensions"),
        (linear_response(ridge, RNG(0)), "no optimum"),
    ):
        assert not found.sds
        assert reason in found.reason


def test_a_margin_that_is_not_known_well_enough_says_so():
    hard = mean_field(AutoNormal, skewed, [0.0, 0.0], [1.0, 1.0])
    found = linear_response(hard, RNG(0), ResponseEffort(draws=8, worst=1e-4)).sds
    assert "not known to 0.01 %" in found["log y"].reason


# --- as a metric ---------------------------------------------------------------------


def measure(evidence: Evidence):
    return catalogue.load("metrics", "linear-response-sd-ratio").measure(evidence)


def test_the_metric_is_a_ratio_of_sds_with_its_error():
    """Of 40 seeds: √(1/2n) from the target's draws, and the error of the corrected sd."""
    found = []
    for seed in range(40):
        x = RNG(seed).normal(size=4000)
        p, sd = Draws(x[:, None], {"x": x}), 0.9 * (1 + 0.02 * RNG([seed, 1]).normal())
        response = Response({"x": Estimate(sd, 0.02 * sd)})
        found.append(measure(Evidence(p, p, p, Estimate(0.0, 0.0), response=response))["x"])
    z = np.array([(e.value - 0.9) / e.standard_error for e in found])
    assert abs(z.mean()) < 4 / np.sqrt(40)
    assert 0.6 < np.sqrt((z**2).mean()) < 1.47


def test_a_study_measures_it_in_the_values_of_the_model():
    """The fit ends within 0.02 nats of the optimum, where sds are off by 5 %."""
    fits = ["normal/reverse-kl", "mvn/reverse-kl", "normal/forward-kl"]
    known = Study(skewed, fits=fits).run(Settings(seed=0, draws=8000))
    plain, full, forward = (fit["metrics"] for fit in known.fits)
    found = plain["linear_response_sd_ratio"]["by"]
    a, b = np.sqrt(np.diag(response_by_differences()) / np.diag(true_covariance()))
    for margin, ratio in {"log y": a, "b": b, "y": 1.0}.items():
        before = plain["sd_ratio"]["by"][margin]["value"]
        print(f"\n{margin}: {before:.3f}, corrected {found[margin]['value']:.3f}, {ratio:.3f}")
        assert found[margin]["value"] == pytest.approx(ratio, rel=0.08)
        assert before < 0.88
    for other, reason in ((full, "mean-field"), (forward, "reverse KL alone")):
        assert other["linear_response_sd_ratio"]["value"] is None
        assert reason in other["linear_response_sd_ratio"]["reason"]
