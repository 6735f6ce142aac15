"""Mixtures of multivariate Student t by natural gradients."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from scipy import integrate, stats
from targets import plane, script
from test_natural_gradient import solved

from vi_compare.divergences.reverse_kl import ReverseKL
from vi_compare.gaussian.kernels import StudentKernel
from vi_compare.gaussian.mixtures import Mixtures
from vi_compare.run.labels import parse_label, parse_part
from vi_compare.solvers import Fit, natural_gradient
from vi_compare.solvers._left_to_gain import left_to_gain
from vi_compare.target import Target
from vi_compare.verdict import Status

LOC = np.array([1.0, -2.0, 3.0])
SCALE = np.array([[1.0, 0.5, 0.0], [0.5, 2.0, 0.3], [0.0, 0.3, 0.7]])
PLACES = np.array([[-3.0, 0.0], [4.0, 1.0]])


def heavy(df: float) -> Target:
    """A normalised Student t in three coordinates: log Z is 0."""
    parts = dist.MultivariateStudentT(df, jnp.array(LOC), jnp.linalg.cholesky(jnp.array(SCALE)))
    return Target(lambda: numpyro.sample("x", parts))


def two() -> Target:
    parts = dist.MultivariateStudentT(jnp.array([3.0, 20.0]), jnp.array(PLACES), jnp.eye(2))
    whole = dist.MixtureSameFamily(dist.Categorical(probs=jnp.array([0.3, 0.7])), parts)
    return Target(lambda: numpyro.sample("x", whole))


def parts_of(fit: Fit) -> tuple[np.ndarray, ...]:
    """Weights, locations, roots of the scale matrices, degrees of freedom."""
    log_weights, parts = fit.approximation.family.parts(fit.approximation.params)
    of = parts.loc, parts.scale_tril, parts.df
    return np.exp(np.asarray(log_weights)), *map(np.asarray, of)


def loss(fit: Fit) -> float:
    return fit.restarts[fit.chosen].loss


def some_students(rows: int, components: int, dim: int) -> Mixtures:
    rng = np.random.default_rng(0)
    roots = np.eye(dim) + 0.3 * rng.standard_normal((rows, components, dim, dim))
    means = 5 + rng.standard_normal((rows, components, dim))
    dfs = rng.uniform(1, 30, (rows, components))
    return Mixtures.of(rng.standard_normal((rows, components)), means, roots, StudentKernel(), dfs)


def test_density_and_slope_are_those_of_a_mixture():
    """Against SciPy, and central differences of step h: their error is of order h² = 1e-10."""
    q = some_students(2, 3, 4)
    u = 5 + np.random.default_rng(1).standard_normal((2, 6, 4))
    log_q, slopes = q.log_prob_and_slope(u)
    for r in range(2):
        each = zip(q.weights[r], q.means[r], q.roots[r], q.dfs[r], strict=True)
        parts = [
            np.log(w) + stats.multivariate_t(m, f @ f.T, df).logpdf(u[r]) for w, m, f, df in each
        ]
        np.testing.assert_allclose(log_q[r], np.logaddexp.reduce(parts), rtol=1e-12)
    h = 1e-5
    for i in range(4):
        step = h * np.eye(4)[i]
        slope = (q.log_prob(u + step) - q.log_prob(u - step)) / (2 * h)
        np.testing.assert_allclose(slopes[..., i], slope, atol=1e-7 * np.abs(slopes).max())


@pytest.mark.parametrize("df", [1.5, 6.0])
def test_draws_are_those_of_a_student(df):
    """On the line, by the Kolmogorov distance; even draws are closer than independent ones."""
    kernel = StudentKernel()
    base = kernel.base(np.random.default_rng(0), 4096, 1)
    e = kernel.draws(base, np.array([[df]]))[0, 0, :, 0]
    assert stats.kstest(e, stats.t(df).cdf).statistic < 0.02


@pytest.mark.parametrize(("df", "dim"), [(1.5, 1), (4.0, 1), (4.0, 3), (200.0, 2)])
def test_information_is_the_mean_square_of_the_scores(df, dim):
    """By quadrature over β = |e|²/(ν + |e|²), whose distribution is a beta."""
    kernel, dfs = StudentKernel(), np.array([[df]])
    factors = kernel.factors(dfs, dim)
    beta = stats.beta(dim / 2, df / 2)

    def mean(of) -> float:
        return integrate.quad(lambda level: of(beta.ppf(level)), 0, 1, limit=400)[0]

    def tail(b: float) -> float:
        e = np.full((1, 1, 1, dim), np.sqrt(df * b / (1 - b) / dim))
        return float(kernel.tail_scores(e, dfs)[0, 0, 0])

    width = lambda b: (df + dim) * b - dim
    assert mean(tail) == pytest.approx(0.0, abs=1e-6)
    assert mean(lambda b: tail(b) * width(b)) == pytest.approx(0.0, abs=1e-6)
    assert mean(lambda b: tail(b) ** 2) == pytest.approx(1 / factors.tail[0, 0], rel=1e-4)
    assert mean(lambda b: width(b) ** 2) == pytest.approx(2 * dim / factors.width[0, 0], rel=1e-4)


@pytest.mark.parametrize("df", [1.5, 4.0, 30.0])
def test_a_student_is_found_exactly(df):
    fit = solved(heavy(df), "student:1")
    assert fit.status is Status.CONVERGED
    assert loss(fit) == pytest.approx(0.0, abs=1e-4)
    _, (loc,), (tril,), (found,) = parts_of(fit)
    np.testing.assert_allclose(loc, LOC, atol=1e-3)
    np.testing.assert_allclose(tril @ tril.T, SCALE, atol=1e-2)
    assert found == pytest.approx(df, rel=0.02)


def test_degrees_of_freedom_can_be_fixed():
    """With those of the target the fit is exact; with others it is not, and they stay."""
    exact, other = (solved(heavy(4.0), f"student:components=1,df={df}") for df in (4, 12))
    assert loss(exact) == pytest.approx(0.0, abs=1e-6)
    assert loss(other) > 0.01
    assert parts_of(other)[3] == [12.0]
    assert "auto_dfs" not in other.approximation.params


def test_two_students_are_found():
    fit = solved(two(), "student:auto")
    assert fit.settings["components"] == 2
    assert loss(fit) == pytest.approx(0.0, abs=2e-3)
    weights, locs, _, dfs = parts_of(fit)
    order = np.argsort(weights)
    np.testing.assert_allclose(weights[order], [0.3, 0.7], atol=0.01)
    np.testing.assert_allclose(locs[order], PLACES, atol=0.05)
    assert dfs[order[0]] < 5 < dfs[order[1]]


@pytest.mark.parametrize("label", ["student:1", "student:auto"])
def test_a_normal_has_many_degrees_of_freedom(label):
    """At the most, 990, KL is d(d + 2)/(4 ν²) = 2e-6 nats; a twentieth of them costs 8e-4."""
    fit = solved(Target(plane), label)
    assert fit.status is Status.CONVERGED
    assert loss(fit) == pytest.approx(0.0, abs=1e-3)
    assert fit.settings["components"] == 1
    assert 100 < parts_of(fit)[3][0] < 1000


def on_a_grid(fit: Fit, module) -> float:
    """Reverse KL by quadrature: u = 5 sinh v in each coordinate takes steps that grow outwards,
    so that tails of two degrees of freedom are there up to 1e5, where 1e-10 of them is left."""
    v = np.linspace(-10.6, 10.6, 1201)
    axis, width = 5 * np.sinh(v), 5 * np.cosh(v) * (v[1] - v[0])
    u = np.stack(np.meshgrid(axis, axis, indexing="ij"), -1).reshape(-1, 2)
    log_p = np.asarray(module.components().log_prob(u))
    log_q = np.asarray(
        jax.jit(fit.approximation.family.guide.get_posterior(fit.approximation.params).log_prob)(u)
    )
    return float((np.exp(log_q) * (log_q - log_p)) @ np.outer(width, width).ravel())


@pytest.mark.parametrize("seed", range(3))
def test_the_student_mixture_is_found(seed):
    module = script("student_mixture")
    fit = solved(Target(module.model), "student:auto", seed)
    assert fit.settings["components"] == 5
    assert -1e-4 < on_a_grid(fit, module) <= 5e-3


def curved() -> Target:
    """Neither normal nor Student t: a banana."""

    def model():
        x = numpyro.sample("x", dist.Normal(0.0, 1.0))
        numpyro.sample("y", dist.Normal(0.3 * x**2, 0.7))

    return Target(model)


@pytest.mark.parametrize("label", ["student:1", "student:3", "student:components=2,df=5"])
def test_nothing_significant_is_left_to_gain(label):
    fit = solved(curved(), label)
    left = left_to_gain(ReverseKL(), fit.approximation, jax.random.key(1)).left
    assert left.value - 3 * left.standard_error < 0.005


def test_a_student_is_not_worse_than_a_gaussian():
    """As a Gaussian is a member to within 1e-6 nats."""
    student, gaussian = (solved(curved(), label) for label in ("student:1", "mixture:1"))
    assert loss(student) < loss(gaussian) + 2e-3


def test_the_same_key_gives_the_same_numbers():
    one, other = (solved(two(), "student:2", 5) for _ in range(2))
    for name, value in one.approximation.params.items():
        np.testing.assert_array_equal(value, other.approximation.params[name])


def test_the_solver_is_chosen_for_plain_reverse_kl():
    guide = parse_part("guides", "student:2").build(plane)
    assert natural_gradient.suits(guide, ReverseKL()) == 3
    assert natural_gradient.suits(guide, ReverseKL(stl=True)) is None
    assert parse_label("student:auto/reverse-kl").name == "student:auto/reverse-kl"
