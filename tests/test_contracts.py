"""Laws that every guide, divergence, solver and metric in the catalogue obeys.

Nothing is named here that a new file would have to be added to.
"""

from __future__ import annotations

import json
from itertools import pairwise
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import optax
import pytest
from jax.flatten_util import ravel_pytree
from numpyro.infer import SVI
from oracles import THREE_PEAKS, Line
from scipy import stats
from targets import approximation, away, plane, script

from vi_compare import catalogue, families
from vi_compare.approximation import GuideApproximation
from vi_compare.divergences.reverse_kl import ReverseKL
from vi_compare.evidence import ALL, About, Draws, Estimate, Evidence, MetricKind, Modes
from vi_compare.report.marks import limits, mark
from vi_compare.target import Target

GUIDES = catalogue.load_all("guides")
DIVERGENCES = catalogue.load_all("divergences")
SOLVERS = catalogue.load_all("solvers")
METRICS = catalogue.load_all("metrics")
PAIRS = [(g, d) for g in GUIDES for d in DIVERGENCES]
# Gradients: every guide under both KLs, every divergence with each way of making a q: site by
# site, one distribution on the flat vector, strata, a network.
WAYS, BOTH_KLS = ("normal", "mvn", "mixture", "iaf"), ("reverse-kl", "forward-kl")
DIFFERENTIATED = [(g, d) for g, d in PAIRS if g in WAYS or d in BOTH_KLS]

PLANE = Target(plane)
PLANE_COVARIANCE = np.array([[0.6, 0.5], [0.5, 1.2]])
PLANE_MEAN = np.array([0.7, -0.4])


def some_draws(n: int, seed: int = 5) -> Draws:
    z = np.random.default_rng(seed).multivariate_normal(PLANE_MEAN, PLANE_COVARIANCE, n)
    return PLANE.draws({"z": jnp.asarray(z)})


# --- the catalogue -----------------------------------------------------------------


@pytest.mark.parametrize("kind", catalogue.KINDS)
def test_every_entry_says_what_it_is_in_one_line(kind):
    entries = catalogue.load_all(kind)
    assert entries
    for name, module in entries.items():
        about_itself = kind == "metrics"
        line = module.ABOUT.meaning if about_itself else catalogue.summary(module.build)
        assert 10 <= len(line) <= 110, f"{kind}/{name}: the summary is {line!r}"
        assert module.__doc__, f"{kind}/{name}: the module says nothing"


@pytest.mark.parametrize(("guide", "divergence"), PAIRS)
def test_one_solver_is_the_default(guide, divergence):
    made = GUIDES[guide].build(plane)
    loss = DIVERGENCES[divergence].build(SimpleNamespace(train=some_draws(8)))
    ranks = [rank for s in SOLVERS.values() if (rank := s.suits(made, loss)) is not None]
    assert ranks, "no solver takes this pair"
    assert ranks.count(max(ranks)) == 1, f"solvers tie at rank {max(ranks)}"


# --- divergences -------------------------------------------------------------------


@pytest.mark.parametrize(("guide", "divergence"), DIFFERENTIATED)
def test_a_constant_in_log_p_changes_no_gradient(guide, divergence):
    made = GUIDES[guide].build(plane)
    unconstrained, constrain = away(made, PLANE)
    loss = DIVERGENCES[divergence].build(SimpleNamespace(train=some_draws(64)))

    @jax.jit
    @jax.grad
    def slope(params, constant):
        return loss.loss(jax.random.key(3), constrain(params), plane, made, constant=constant)

    plain, shifted = (ravel_pytree(slope(unconstrained, c))[0] for c in (0.0, 100.0))
    assert np.linalg.norm(plain) > 1e-3  # a gradient that is zero would prove nothing
    # Adding 100 to numbers of order 1 rounds off 1e-14 each; 1e-11 leaves room for sums.
    np.testing.assert_allclose(shifted, plain, atol=1e-11 * max(1.0, np.abs(plain).max()))


def exactly(name: str, seed: int = 1):
    """A target that is exactly a member of the guide's family: (q, p, draw).

    Where the guide is a Gaussian mixture, p is built from NumPyro's distributions. The
    guide was set up on another target, from which a Laplace approximation has its curvature.
    """
    q = approximation(name, PLANE, seed)
    mixture = families.to_mixture(q.guide, q.params, PLANE)
    if mixture is None:
        log_q = q.log_prob
        density = lambda: numpyro.factor("log_q", log_q(numpyro.sample("z", flat())))
        flat = lambda: dist.ImproperUniform(dist.constraints.real_vector, (), (2,))
        return q, density, lambda key, n: q.sample(key, n).u
    weights, means, covariances = mixture
    made = dist.MixtureSameFamily(
        dist.Categorical(probs=weights), dist.MultivariateNormal(means, covariances)
    )
    return q, lambda: numpyro.sample("z", made), lambda key, n: made.sample(key, (n,))


@pytest.mark.parametrize(("guide", "divergence"), DIFFERENTIATED)
def test_at_q_equal_p_the_mean_gradient_is_zero(guide, divergence):
    """With 400 batches (t distribution), shared among its parameters, a right gradient fails
    one pair in 2,000; over 60 pairs together once in 30 seeds."""
    q, p, draw = exactly(guide)
    unconstrained, constrain = away(q.guide, PLANE, 1)
    batches, rows = 400, 128
    target = Target(p)
    u = draw(jax.random.key(11), batches * rows).reshape(batches, rows, 2)
    log_p = jax.vmap(jax.vmap(target.log_density))(u)

    @jax.jit
    @jax.vmap
    def slope(key, u, log_p):
        reference = SimpleNamespace(train=Draws(u, {"z": u}, log_p))
        loss = DIVERGENCES[divergence].build(reference)
        return ravel_pytree(
            jax.grad(lambda params: loss.loss(key, constrain(params), p, q.guide))(unconstrained)
        )[0]

    g = np.asarray(slope(jax.random.split(jax.random.key(12), batches), u, log_p))
    error = g.std(axis=0, ddof=1) / np.sqrt(batches)
    # A direction that changes nothing (the common level of logits) is zero to rounding, and
    # doubly reparameterised gradients are so in every direction and at every draw.
    limit = stats.t.isf(1 / 2000 / 2 / max(1, (error > 0).sum()), batches - 1)
    assert (np.abs(g.mean(axis=0)) <= limit * error + 1e-12).all(), g.mean(axis=0) / error


@pytest.mark.parametrize("guide", GUIDES)
def test_sticking_the_landing_has_no_noise_at_q_equal_p(guide):
    q, p, _ = exactly(guide)
    unconstrained, constrain = away(q.guide, PLANE, 1)
    loss = ReverseKL(8, stl=True)
    slope = jax.grad(lambda params: loss.loss(jax.random.key(0), constrain(params), p, q.guide))
    # log p and log q are of order 10 and equal; their slopes cancel to 1e-14 or so.
    assert np.abs(ravel_pytree(jax.jit(slope)(unconstrained))[0]).max() < 1e-11


# --- guides ------------------------------------------------------------------------


def cells_of(pilot: np.ndarray):
    """Five cells of a margin: inner edges (4,), quadrature nodes and weights, and where
    each cell begins among the nodes.

    Gauss-Legendre in t with u = median + scale * sinh(t), out to a million scales, so
    that tails that fall like a power are integrated as well as a Gaussian's.
    """
    nodes, weights = np.polynomial.legendre.leggauss(16)
    inner = np.quantile(pilot, [0.15, 0.4, 0.6, 0.85])
    middle, scale = np.median(pilot), inner[3] - inner[0]
    edges = [-14.5, *np.arcsinh((inner - middle) / scale), 14.5]
    panels = (12, 4, 4, 4, 12)
    fine = [
        np.linspace(a, b, n + 1)[:-1] for (a, b), n in zip(pairwise(edges), panels, strict=True)
    ]
    fine = np.append(np.concatenate(fine), edges[-1])
    half = np.diff(fine)[:, None] / 2
    t = (fine[:-1, None] + half * (nodes + 1)).ravel()
    begins = 16 * np.cumsum([0, *panels[:-1]])
    return inner, middle + scale * np.sinh(t), (half * weights).ravel() * scale * np.cosh(t), begins


@pytest.mark.parametrize("guide", GUIDES)
def test_draws_follow_the_density(guide):
    """Chi-square of 5 × 5 cells, their masses by quadrature of exp(log_prob).

    A right guide fails once in 10,000 seeds."""
    # Moved so little that a flow stretches no direction tenfold, which the nodes resolve.
    q = approximation(guide, PLANE, seed=1, size=0.2)
    draws = q.sample(jax.random.key(4), 20_000)
    u = np.asarray(draws.u)
    # Cells from other draws than are counted, so that their counts are multinomial.
    pilot = np.asarray(q.sample(jax.random.key(5), 2000).u)
    (ex, x, wx, bx), (ey, y, wy, by) = (cells_of(c) for c in pilot.T)
    edges = (ex, ey)
    points = np.stack(np.meshgrid(x, y, indexing="ij"), -1).reshape(-1, 2)
    log_q = np.asarray(jax.jit(jax.vmap(q.log_prob))(points)).reshape(len(x), len(y))
    mass = np.exp(log_q) * wx[:, None] * wy
    cells = np.add.reduceat(np.add.reduceat(mass, bx, axis=0), by, axis=1)
    # Exact to 1e-8, also across the kinks of a network; 20,000 draws see 1e-3.
    assert cells.sum() == pytest.approx(1.0, abs=1e-6)
    i, j = (np.searchsorted(e, c) for e, c in zip(edges, u.T, strict=True))
    counts = np.zeros((5, 5))
    np.add.at(counts, (i, j), 1)
    held = cells.ravel() * len(u) > 5
    assert held.sum() > 10
    expected = np.append(cells.ravel()[held], max(cells.ravel()[~held].sum(), 1e-12)) * len(u)
    observed = np.append(counts.ravel()[held], counts.ravel()[~held].sum())
    enough = expected > 1
    statistic = ((observed - expected) ** 2 / expected)[enough].sum()
    assert stats.chi2.sf(statistic, enough.sum() - 1) > 1e-4


@pytest.mark.parametrize("guide", GUIDES)
def test_draws_carry_their_own_densities(guide):
    q = approximation(guide, PLANE, seed=3)
    draws = q.sample(jax.random.key(0), 64)
    # Batched and single evaluation may sum in another order: 1e-12 relative to ~10 nats.
    single = [float(q.log_prob(u)) for u in draws.u[:8]]
    np.testing.assert_allclose(draws.log_q[:8], single, rtol=0, atol=1e-11)
    np.testing.assert_allclose(q.at(draws).log_q, draws.log_q, rtol=0, atol=1e-11)
    truth = stats.multivariate_normal(PLANE_MEAN, PLANE_COVARIANCE).logpdf(np.asarray(draws.u))
    np.testing.assert_allclose(draws.log_p, truth, rtol=0, atol=1e-10)


@pytest.mark.parametrize("guide", GUIDES)
def test_strata_are_the_guide(guide):
    """Σ w_k E_k[f] from strata against E_q[f] from plain draws, f = cos of each coordinate
    and their product: 3 differences within 4.5 standard errors, one false alarm in 50,000."""
    q = approximation(guide, PLANE, seed=4, size=0.8)
    log_weights, u = jax.jit(lambda key: q.strata(key, 20_000))(jax.random.key(8))
    assert float(jax.nn.logsumexp(log_weights)) == pytest.approx(0.0, abs=1e-12)
    f = lambda z: np.stack([np.cos(z[..., 0]), np.cos(z[..., 1]), np.cos(z[..., 0] * z[..., 1])])
    weights, parts = np.exp(np.asarray(log_weights)), f(np.asarray(u))
    plain = f(np.asarray(q.sample(jax.random.key(9), 20_000).u))
    ours = parts.mean(axis=2) @ weights
    variance = parts.var(axis=2) @ weights**2 / 20_000 + plain.var(axis=1) / 20_000
    assert (np.abs(ours - plain.mean(axis=1)) < 4.5 * np.sqrt(variance)).all()


def separate():
    numpyro.sample("a", dist.Normal(1.0, 0.5))
    numpyro.sample("b", dist.Normal(-2.0, 3.0))


@pytest.mark.parametrize("guide", GUIDES)
def test_a_guide_works_in_a_plain_numpyro_script(guide):
    """The model lies in every Gaussian family, so the optimum is KL 0 and known."""
    made = GUIDES[guide].build(separate)
    steps = optax.adam(optax.exponential_decay(0.1, 400, 0.1))
    svi = SVI(separate, made, steps, loss=ReverseKL())
    result = svi.run(jax.random.key(0), 1200, progress_bar=False)
    q = GuideApproximation(made, result.params, Target(separate))
    x, y = np.linspace(-4, 6, 161), np.linspace(-26, 22, 161)
    points = np.stack(np.meshgrid(x, y, indexing="ij"), -1).reshape(-1, 2)
    log_q = np.asarray(jax.jit(jax.vmap(q.log_prob))(points))
    log_p = stats.norm(1, 0.5).logpdf(points[:, 0]) + stats.norm(-2, 3).logpdf(points[:, 1])
    kl = (np.exp(log_q) * (log_q - log_p)).sum() * (x[1] - x[0]) * (y[1] - y[0])
    # Started at 1 to 10 nats. What is left is Adam's noise at a step of 1e-4: well under
    # 1e-3 nats per parameter, and a mixture has 11 of them.
    assert abs(kl) < 0.01


# --- metrics -----------------------------------------------------------------------


def line_draws(p: Line, q: Line, seed: int, n: int) -> tuple[Draws, Draws, Draws]:
    """(draws of q, of p, of p again), with both densities, all from numpy."""
    rng = np.random.default_rng(seed)

    def make(who):
        x = who.draw(rng, n)
        return Draws(x[:, None], {"x": x}, p.log_pdf(x), q.log_pdf(x))

    return make(q), make(p), make(p)


def plane_evidence(n: int = 4000) -> Evidence:
    q = approximation("mvn", PLANE, seed=6, size=0.2)
    test, floor = q.at(some_draws(n, 1)), some_draws(n, 2)
    shares = np.array([0.6, 0.4])
    modes = Modes(("left", "right"), shares, np.array([0.61, 0.39]), np.array([0.5, 0.5]), n)
    return Evidence(q.sample(jax.random.key(1), n), test, floor, Estimate(0.0, 0.0), modes)


def line_evidence(n: int = 4000) -> Evidence:
    q, test, floor = line_draws(THREE_PEAKS, Line(np.ones(1), np.zeros(1), np.full(1, 1.8)), 0, n)
    return Evidence(q, test, floor, Estimate(0.0, 0.0), None, "not looked for")


@pytest.mark.parametrize("metric", METRICS)
def test_what_a_metric_says_about_itself_makes_sense(metric):
    about = METRICS[metric].ABOUT
    assert about.name
    assert "\n" not in about.meaning
    assert About.of(about.plain()) == about
    assert json.loads(json.dumps(about.plain())) == about.plain()
    assert (about.good is None) == (about.near is None)
    if about.good is not None:
        ends = (about.good, about.near)
        assert ends == tuple(sorted(ends, reverse=about.kind is MetricKind.LARGER))
        assert limits(about)
        if about.perfect is not None:
            assert mark(about, about.perfect) == "good"
    if about.kind is MetricKind.RATIO:
        assert about.perfect == 1.0
        assert about.good is None or about.good > 1.0


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("evidence", [plane_evidence, line_evidence])
def test_a_metric_measures_in_the_unit_that_it_names(metric, evidence):
    about = METRICS[metric].ABOUT
    assert {e.unit for e in METRICS[metric].measure(evidence()).values()} == {about.unit}


def perfect_evidence(n: int = 4000) -> Evidence:
    """Draws of the target stand for those of the fit, and two basins for its modes."""
    q, test, floor = line_draws(THREE_PEAKS, THREE_PEAKS, 3, n)
    shares = [np.array([left, 1 - left]) for d in (test, floor, q) if (left := (d.u < 0).mean())]
    modes = Modes(("left", "right"), *shares, n)
    return Evidence(q, test, floor, Estimate(0.0, 0.0, "nats"), modes)


def test_a_perfect_fit_scores_what_a_metric_calls_perfect():
    """But for chance: five standard errors, or five floors of a distance between draws, which
    is never below 0."""
    evidence, measured = perfect_evidence(), 0
    for metric, module in METRICS.items():
        about, found = module.ABOUT, module.measure(evidence)[ALL]
        if about.perfect is None or found.value is None:
            continue
        off = abs(about.badness(found.value) - about.badness(about.perfect))
        room = 5 * max(found.standard_error, abs(found.floor or 0.0)) + 1e-9
        assert off <= room, f"{metric}: {found}"
        measured += 1
    assert measured > 15


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("evidence", [plane_evidence, line_evidence])
def test_a_metric_has_a_headline_and_finite_errors(metric, evidence):
    found = METRICS[metric].measure(evidence())
    assert ALL in found
    for label, e in found.items():
        if e.value is None:
            assert e.reason, f"{label} is missing without a reason"
        else:
            assert np.isfinite(e.value)
            assert e.standard_error is not None
            assert np.isfinite(e.standard_error)
            assert e.standard_error >= 0
            assert e.n


@pytest.mark.parametrize("metric", METRICS)
def test_a_metric_without_reference_or_log_q_says_why_or_does_without(metric):
    full = line_evidence(1000)
    blind = Draws(full.q.u, full.q.values, None, None, "no density")
    for e in (
        Evidence(full.q, None, None, Estimate(0.0, 0.0), None, "no draws"),
        Evidence(blind, blind, blind, Estimate.missing("unknown"), None, "no draws"),
        Evidence(full.q, full.test, full.floor, Estimate.missing("unknown"), None, "no draws"),
    ):
        for estimate in METRICS[metric].measure(e).values():
            assert (estimate.value is None) == bool(estimate.reason)


def test_the_script_of_three_peaks_can_be_prepared():
    target = script("three_peaks").study.target()
    assert target.dim == 1
    assert target.normalised
