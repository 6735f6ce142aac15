"""The gallery: every script of models/ runs, and what its truth rests on is right.

The exact samplers, densities and normalisers are held against numpy and scipy alone. Seeds are
fixed; on a new seed a Kolmogorov-Smirnov or chi-square test here raises a false alarm once in
10,000 runs, a z-score once in 150,000 (4.5 standard errors).
"""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import integrate, special, stats
from targets import ROOT, script

from vi_compare import Settings
from vi_compare.run.labels import parse_label
from vi_compare.run.progress import Silent
from vi_compare.script import load

SCRIPTS = sorted((ROOT / "models").glob("*.py"))
SMALL = Settings(draws=1000, restarts=2)
CHEAP = "diagonal/reverse-kl/svi:steps=200"
DRAWS = 20_000
LIMIT = 4.5
FALSE_ALARM = 1e-4


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda p: p.stem)
def test_a_script_is_documented_and_runs(path):
    study = load(path)
    assert 20 <= len(study.description.partition("\n")[0]) <= 110
    assert study.fits, "a script of the gallery says what is worth comparing"
    # No chains here: NUTS on the larger models takes minutes.
    settings = SMALL if study.exact else replace(SMALL, reference="none")
    # Setting up its own guides and fitting them takes minutes; one cheap fit shows as well
    # that the model, its data, the Stein check of its exact draws and every metric work.
    prepared = replace(study, fits=[CHEAP], published=()).prepare(settings)
    stand_in = SimpleNamespace(train=prepared.target.complete(jnp.zeros((2, prepared.target.dim))))
    for label in map(parse_label, (fit for fit in study.fits if isinstance(fit, str))):
        label.guide.build(study.model)
        label.divergence.build(stand_in)
    (fit,) = prepared.run(Silent()).fits
    assert fit["status"] != "failed", fit["message"]
    assert np.isfinite(fit["metrics"]["elbo"]["value"])


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda p: p.stem)
def test_the_data_are_the_same_in_any_float_width(path):
    """Data drawn by jax.random would be another set of numbers with --float32."""
    data = load(path).data
    if not callable(data):
        pytest.skip("no data, or written as numbers")
    double = data()
    with jax.enable_x64(False):
        single = data()
    for name, values in double.items():
        np.testing.assert_allclose(values, single[name], rtol=1e-6, atol=1e-6)


def drawn(module, n: int = DRAWS, seed: int = 3) -> dict[str, np.ndarray]:
    return {k: np.asarray(v) for k, v in module.exact(jax.random.key(seed), n).items()}


def log_density(name: str, u) -> np.ndarray:
    """The package's log p at points (n, d)."""
    return np.asarray(jax.vmap(script(name).study.target().log_density)(jnp.asarray(u)))


def follows(values: np.ndarray, cdf) -> None:
    assert stats.kstest(values.ravel(), cdf).pvalue > FALSE_ALARM


def uncorrelated(a: np.ndarray, b: np.ndarray) -> None:
    assert abs(stats.spearmanr(a, b).statistic) * np.sqrt(len(a)) < LIMIT


# --- forty modes --------------------------------------------------------------------


def test_forty_modes_are_forty_and_equally_full():
    module = script("forty_modes")
    means, x = np.asarray(module.means()), drawn(module)["x"]
    assert np.abs(means).max() < 40
    apart = np.sqrt(((means[:, None] - means) ** 2).sum(axis=2)) + np.diag(np.full(40, np.inf))
    assert apart.min() > 4
    nearest = ((x[:, None] - means) ** 2).sum(axis=2).argmin(axis=1)
    counts = np.bincount(nearest, minlength=40)
    assert stats.chisquare(counts).pvalue > FALSE_ALARM
    for i in range(2):
        follows(x[:, i], lambda v, i=i: stats.norm.cdf(v[:, None] - means[:, i]).mean(axis=1))


def test_forty_modes_have_the_density_of_scipy():
    module = script("forty_modes")
    x = np.random.default_rng(0).uniform(-45, 45, (50, 2))
    each = [stats.multivariate_normal(m, np.eye(2)).logpdf(x) for m in np.asarray(module.means())]
    truth = special.logsumexp(each, axis=0) - np.log(40)
    np.testing.assert_allclose(log_density("forty_modes", x), truth, rtol=1e-10)


# --- funnel and banana --------------------------------------------------------------


def test_the_funnel_is_neals():
    draws = drawn(script("funnel"))
    v, x = draws["v"], draws["x"]
    follows(v / 3, stats.norm.cdf)
    follows(x * np.exp(-v / 2)[:, None], stats.norm.cdf)
    uncorrelated(v, (x * np.exp(-v / 2)[:, None]).sum(axis=1))
    for bound in (0.1, 1.0, 10.0):
        within = lambda v, c=bound: 2 * stats.norm.cdf(c * np.exp(-v / 2)) - 1
        truth = stats.norm(scale=3).expect(within, lb=-40, ub=40)
        share = (np.abs(x[:, 0]) < bound).mean()
        assert abs(share - truth) < LIMIT * np.sqrt(truth * (1 - truth) / len(v))


def test_the_banana_is_bent_by_a_tenth():
    draws = drawn(script("banana"))
    x, y = draws["x"], draws["y"]
    rest = y - 0.1 * (100 - x**2)
    follows(x / 10, stats.norm.cdf)
    follows(rest, stats.norm.cdf)
    uncorrelated(x, rest)
    uncorrelated(x**2, rest)


@pytest.mark.parametrize("name", ["funnel", "banana"])
def test_the_density_is_the_product_of_its_conditionals(name):
    u = np.random.default_rng(1).normal(size=(20, 10 if name == "funnel" else 2))
    first, others = u[:, 0], u[:, 1:]
    if name == "funnel":
        scale = np.exp(first / 2)[:, None]
        truth = stats.norm.logpdf(first, 0, 3) + stats.norm.logpdf(others, 0, scale).sum(axis=1)
    else:
        ridge = 0.1 * (100 - first**2)
        truth = stats.norm.logpdf(first, 0, 10) + stats.norm.logpdf(others[:, 0], ridge, 1)
    np.testing.assert_allclose(log_density(name, u), truth, rtol=1e-10)


# --- many well ----------------------------------------------------------------------


def well(x):
    return np.exp(-(x**4) + 6 * x**2 + 0.5 * x)


def below(upper: float) -> float:
    edges = [e for e in (-1.7, 0.0, 1.7) if e < upper]
    return integrate.quad(well, -5, upper, points=edges or None, epsabs=1e-9, limit=200)[0]


def test_the_wells_hold_what_quadrature_says():
    draws, total = drawn(script("many_well")), below(5.0)
    x1 = draws["x1"].ravel()
    table = np.linspace(-5, 5, 2001)
    pieces = [integrate.fixed_quad(well, *ends, n=8)[0] for ends in pairwise(table)]
    cdf = np.concatenate([[0], np.cumsum(pieces)])
    assert cdf[-1] == pytest.approx(total, rel=1e-9)
    follows(x1, lambda v: np.interp(v, table, cdf / total))
    for power in (1, 2, 3, 4):
        weighted = lambda x, k=power: x**k * well(x)
        truth = integrate.quad(weighted, -5, 5, points=[-1.7, 0, 1.7])[0]
        values = x1**power
        assert abs(values.mean() - truth / total) < LIMIT * values.std() / np.sqrt(x1.size)
    follows(draws["x2"], stats.norm.cdf)
    uncorrelated(draws["x1"][:, 0], draws["x1"][:, 1])
    uncorrelated(draws["x1"][:, 0], draws["x2"][:, 0])


def test_the_normaliser_of_the_wells_is_that_of_quadrature_and_the_published_one():
    ours = float(script("many_well").log_normalizer())
    assert ours == pytest.approx(16 * (np.log(below(5.0)) + 0.5 * np.log(2 * np.pi)), abs=1e-8)
    # ∫ exp(−x⁴ + 6x² + x/2) dx as printed in the code of Midgley et al. (2023)
    assert np.exp(ours / 16) / np.sqrt(2 * np.pi) == pytest.approx(11784.50927, rel=1e-9)


def test_the_density_of_the_wells_is_not_normalised_by_the_model():
    u = np.random.default_rng(2).normal(size=(5, 32))
    truth = np.log(well(u[:, :16])).sum(axis=1) - 0.5 * (u[:, 16:] ** 2).sum(axis=1)
    np.testing.assert_allclose(log_density("many_well", u), truth, rtol=1e-10)


# --- Student-t mixture --------------------------------------------------------------


def test_the_student_mixture_has_the_margins_and_the_density_of_scipy():
    module = script("student_mixture")
    x, places = drawn(module)["x"], np.array(module.LOCATIONS)
    weights = np.array(module.WEIGHTS)
    assert weights.sum() == pytest.approx(1)
    for i in range(2):
        follows(x[:, i], lambda v, i=i: stats.t.cdf(v[:, None] - places[:, i], df=2) @ weights)
    points = np.random.default_rng(3).normal(size=(30, 2)) * 10
    each = [stats.multivariate_t(place, np.eye(2), df=2).logpdf(points) for place in places]
    truth = special.logsumexp(each, b=weights[:, None], axis=0)
    np.testing.assert_allclose(log_density("student_mixture", points), truth, rtol=1e-8)


# --- conjugate regression -----------------------------------------------------------


def normal_equations(module):
    """Posterior mean and covariance, by least squares with the prior as extra rows."""
    x, y = (np.asarray(a) for a in module.data().values())
    rows = np.vstack([x / module.NOISE, np.eye(x.shape[1]) / module.PRIOR])
    right = np.concatenate([y / module.NOISE, np.zeros(x.shape[1])])
    return np.linalg.lstsq(rows, right, rcond=None)[0], np.linalg.inv(rows.T @ rows)


def test_the_posterior_of_the_regression_is_drawn_exactly():
    module = script("conjugate_regression")
    mean, covariance = normal_equations(module)
    draws = drawn(module)["coefficients"]
    z = (draws - mean) @ np.linalg.cholesky(np.linalg.inv(covariance))
    follows(z, stats.norm.cdf)
    follows((z**2).sum(axis=1), stats.chi2(6).cdf)
    errors = np.corrcoef(z.T)[np.triu_indices(6, 1)] * np.sqrt(len(z))
    assert np.abs(errors).max() < LIMIT


def test_the_evidence_of_the_regression_is_the_marginal_likelihood():
    module = script("conjugate_regression")
    x, y = (np.asarray(a) for a in module.data().values())
    covariance = module.NOISE**2 * np.eye(len(y)) + module.PRIOR**2 * x @ x.T
    truth = stats.multivariate_normal(np.zeros(len(y)), covariance).logpdf(y)
    assert float(module.log_normalizer()) == pytest.approx(truth, abs=1e-8)


def test_the_density_of_the_regression_is_evidence_times_posterior():
    module = script("conjugate_regression")
    posterior = stats.multivariate_normal(*normal_equations(module))
    u = posterior.rvs(10, random_state=4)
    truth = posterior.logpdf(u) + float(module.log_normalizer())
    np.testing.assert_allclose(log_density("conjugate_regression", u), truth, rtol=1e-8)


# --- eight schools ------------------------------------------------------------------


def test_both_forms_of_eight_schools_are_one_posterior():
    """theta = mu + tau z: the densities differ by tau to the power of eight, and in u, where
    tau is exp, by nothing else."""
    u = np.random.default_rng(5).normal(size=(20, 10)) * [5, 1, *[10] * 8]
    mu, tau, theta = u[:, 0], np.exp(u[:, 1]), u[:, 2:]
    standard = np.column_stack([u[:, :2], (theta - mu[:, None]) / tau[:, None]])
    centred = log_density("eight_schools_centred", u)
    noncentred = log_density("eight_schools_noncentred", standard)
    np.testing.assert_allclose(noncentred, centred + 8 * np.log(tau), rtol=1e-10)


def test_eight_schools_have_the_log_joint_of_scipy():
    effect = np.array([28, 8, -3, 7, -1, 1, 18, 12])  # Rubin (1981), table 1, rounded
    error = np.array([15, 10, 16, 11, 9, 11, 10, 18])
    u = np.random.default_rng(6).normal(size=(20, 10)) * [5, 1, *[10] * 8]
    mu, tau, theta = u[:, :1], np.exp(u[:, 1]), u[:, 2:]
    truth = (
        stats.norm.logpdf(mu[:, 0], 0, 5)
        + stats.halfcauchy.logpdf(tau, scale=5)
        + np.log(tau)  # of tau = exp(u)
        + stats.norm.logpdf(theta, mu, tau[:, None]).sum(axis=1)
        + stats.norm.logpdf(effect, theta, error).sum(axis=1)
    )
    np.testing.assert_allclose(log_density("eight_schools_centred", u), truth, rtol=1e-10)
