"""Laws that every guide, divergence, solver, metric and section in the catalogue obeys.

Nothing is named here that a new file would have to be added to.
"""

from __future__ import annotations

import inspect
import json
from dataclasses import replace
from functools import cache, partial
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
from test_report import gaussian_mixture, published

from vi_compare import catalogue, families
from vi_compare.approximation import GuideApproximation
from vi_compare.divergences.reverse_kl import ReverseKL
from vi_compare.evidence import ALL, About, Draws, Estimate, Evidence, MetricKind, Modes
from vi_compare.families import Covariances
from vi_compare.gaussian.frames import Frame
from vi_compare.gaussian.gaussians import FullRank
from vi_compare.gaussian.low_rank import project
from vi_compare.report.blocks import Section
from vi_compare.report.marks import limits, mark
from vi_compare.report.view import View
from vi_compare.run.labels import parse_part
from vi_compare.solvers import Cost, Fit, Foresees, Problem, Restart
from vi_compare.target import Target
from vi_compare.verdict import Status

GUIDES = catalogue.load_all("guides")
DIVERGENCES = catalogue.load_all("divergences")
SOLVERS = catalogue.load_all("solvers")
METRICS = catalogue.load_all("metrics")
SECTIONS = catalogue.load_all("sections")
PAIRS = [(g, d) for g in GUIDES for d in DIVERGENCES]
# Gradients: every guide under both KLs, every divergence with each way of making a q: site by
# site, one distribution on the flat vector, strata, a network.
WAYS, BOTH_KLS = ("normal", "mvn", "mixture", "iaf"), ("reverse-kl", "forward-kl")
DIFFERENTIATED = [(g, d) for g, d in PAIRS if g in WAYS or d in BOTH_KLS]

# Each of these programs runs once: compiling them takes longer than anything that they do.
once = partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})

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


@cache
def seen(case: str) -> View:
    return View.of({"line": published, "plane": partial(gaussian_mixture, 2)}[case]())


@pytest.mark.parametrize("case", ["line", "plane"])
@pytest.mark.parametrize("name", SECTIONS)
def test_a_section_has_something_to_say_or_says_nothing(name, case):
    found = SECTIONS[name].section(seen(case))
    assert isinstance(found, Section | None), f"section returned a {type(found).__name__}"
    line = catalogue.summary(SECTIONS[name])
    assert 10 <= len(line) <= 110, f"sections/{name}: the module's first line is {line!r}"
    if found:
        assert found.title
        assert found.blocks, "a section without blocks is None"


def test_no_two_sections_have_one_key():
    keys = [made.key for s in SECTIONS.values() if (made := s.section(seen("plane")))]
    assert len(keys) == len(set(keys))


@pytest.mark.parametrize(("guide", "divergence"), PAIRS)
def test_one_solver_is_the_default(guide, divergence):
    made = GUIDES[guide].build(plane)
    loss = DIVERGENCES[divergence].build(SimpleNamespace(train=some_draws(8)))
    ranks = [rank for s in SOLVERS.values() if (rank := s.suits(made, loss)) is not None]
    assert ranks, "no solver takes this pair"
    assert ranks.count(max(ranks)) == 1, f"solvers tie at rank {max(ranks)}"


# --- divergences -------------------------------------------------------------------


def exactly(name: str, seed: int = 1):
    """A target that is exactly a member of the guide's family: (q, p, draw).

    Where the guide is a Gaussian mixture, p is built from NumPyro's distributions. The
    guide was set up on another target, from which a Laplace approximation has its curvature.
    """
    q = approximation(name, PLANE, seed)
    mixture = q.family.to_mixture(q.params, PLANE)
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


class Slopes:
    """Gradients (n, P) of a divergence in the unconstrained parameters of a guide, against a
    target of its family; one program, of a few batches, for all that is asked of a pair."""

    batches, rows, few = 400, 128, 40

    def __init__(self, guide: str, divergence: str):
        q, p, draw = exactly(guide)
        self.at_p, constrain = away(q.guide, PLANE, 1)
        self.elsewhere = away(q.guide, PLANE)[0]
        self.u = draw(jax.random.key(11), self.batches * self.rows)
        self.u = self.u.reshape(self.batches, self.rows, 2)
        self.log_p = jax.vmap(jax.vmap(Target(p).log_density))(self.u)
        self.keys = jax.random.split(jax.random.key(12), self.batches)

        def shifted(constant):
            p()
            numpyro.factor("constant", constant)

        def slope(params, constant, key, u, log_p):
            reference = SimpleNamespace(train=Draws(u, {"z": u}, log_p))
            loss = DIVERGENCES[divergence].build(reference)
            at = lambda params: loss.loss(key, constrain(params), shifted, q.guide, constant)
            return ravel_pytree(jax.grad(at)(params))[0]

        self._slope = once(jax.vmap(slope, (None, None, 0, 0, 0)))

    def __call__(self, params, batches: int, constant: float = 0.0) -> np.ndarray:
        data = self.keys, self.u, self.log_p + constant
        ends = range(self.few, batches + 1, self.few)
        some = lambda end: jax.tree.map(lambda x: x[end - self.few : end], data)
        return np.concatenate([self._slope(params, constant, *some(end)) for end in ends])


@pytest.fixture(scope="module", params=DIFFERENTIATED, ids="-".join)
def slopes(request) -> Slopes:
    return Slopes(*request.param)


def test_a_constant_in_log_p_changes_no_gradient(slopes):
    plain, shifted = (slopes(slopes.elsewhere, slopes.few, constant) for constant in (0.0, 100.0))
    assert np.linalg.norm(plain) > 1e-3  # a gradient that is zero would prove nothing
    # Adding 100 to numbers of order 1 rounds off 1e-14 each; 1e-11 leaves room for sums.
    np.testing.assert_allclose(shifted, plain, atol=1e-11 * max(1.0, np.abs(plain).max()))


def test_at_q_equal_p_the_mean_gradient_is_zero(slopes):
    """With 400 batches (t distribution), shared among its parameters, a right gradient fails
    one pair in 2,000; over 60 pairs together once in 30 seeds."""
    g = slopes(slopes.at_p, slopes.batches)
    error = g.std(axis=0, ddof=1) / np.sqrt(len(g))
    # A direction that changes nothing (the common level of logits) is zero to rounding, and
    # doubly reparameterised gradients are so in every direction and at every draw.
    limit = stats.t.isf(1 / 2000 / 2 / max(1, (error > 0).sum()), len(g) - 1)
    assert (np.abs(g.mean(axis=0)) <= limit * error + 1e-12).all(), g.mean(axis=0) / error


@pytest.mark.parametrize("guide", GUIDES)
def test_sticking_the_landing_has_no_noise_at_q_equal_p(guide):
    q, p, _ = exactly(guide)
    unconstrained, constrain = away(q.guide, PLANE, 1)
    loss = ReverseKL(8, stl=True)
    slope = jax.grad(lambda params: loss.loss(jax.random.key(0), constrain(params), p, q.guide))
    # log p and log q are of order 10 and equal; their slopes cancel to 1e-14 or so.
    assert np.abs(ravel_pytree(jax.jit(slope)(unconstrained))[0]).max() < 1e-11


class Counted:
    """The plane, which counts how often its log density and its gradient are evaluated."""

    normalised, dim = False, 2

    def __init__(self):
        self.found = {"log_density": 0, "gradient": 0}
        self.log_density = jax.custom_jvp(self._value)
        self.log_density.defjvp(self._both)

    def _value(self, u):
        self._count(u, "log_density")
        return PLANE.log_density(u)

    def _both(self, points, directions):
        self._count(points[0], "log_density", "gradient")
        return jax.jvp(PLANE.log_density, points, directions)

    def _count(self, u, *what):
        def add(_):
            self.found |= {name: self.found[name] + 1 for name in what}

        jax.debug.callback(add, u)  # under vmap once for every point


# The other forms of an estimator may evaluate something else.
FORMS = ("reverse-kl:score", "log-variance:sampler=reference")


@pytest.mark.parametrize("label", [*DIVERGENCES, *FORMS])
def test_a_divergence_evaluates_the_target_as_often_as_it_says(label):
    made, target = GUIDES["mixture"].build(plane), Counted()
    unconstrained, constrain = away(made, PLANE)
    loss = parse_part("divergences", label).build(SimpleNamespace(train=some_draws(64)))
    few = loss.with_particles(3)

    @jax.jit
    @jax.grad
    def gradient(params):
        q = GuideApproximation(made, constrain(params), PLANE)
        return few.estimate(jax.random.key(0), q, target)

    jax.block_until_ready(gradient(unconstrained))
    jax.effects_barrier()
    said = few.evaluations(families.family(made).num_components)._asdict()
    assert target.found == said, "override Divergence.evaluations: that is what was counted"
    assert loss.num_particles != 3  # what it was made from is as it was


@pytest.mark.parametrize("divergence", DIVERGENCES)
def test_the_option_of_a_divergence_and_its_argument_have_one_name(divergence):
    """Where `build` offers an option that the class has an argument for."""
    build = DIVERGENCES[divergence].build
    loss = build(SimpleNamespace(train=some_draws(8)))
    assert "particles" in catalogue.options(build)
    arguments = inspect.signature(type(loss)).parameters
    assert "particles" in arguments
    assert "num_particles" not in arguments
    with pytest.raises(ValueError, match="particles must be at least"):
        build(SimpleNamespace(train=some_draws(8)), particles=0)


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
    # Exact to 1e-8, also across the kinks of a network, and to 3e-4 across those of splines;
    # 20,000 draws see 1e-3.
    assert cells.sum() == pytest.approx(1.0, abs=5e-4)
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


def trained(guide, steps: int = 1200) -> float:
    """KL(q‖p) in nats after so many steps of NumPyro's own SVI, by quadrature."""
    adam = optax.adam(optax.exponential_decay(0.1, 400, 0.1))
    svi = SVI(separate, guide, adam, loss=ReverseKL())
    result = svi.run(jax.random.key(0), steps, progress_bar=False)
    q = GuideApproximation(guide, result.params, Target(separate))
    x, y = np.linspace(-4, 6, 161), np.linspace(-26, 22, 161)
    points = np.stack(np.meshgrid(x, y, indexing="ij"), -1).reshape(-1, 2)
    log_p = stats.norm(1, 0.5).logpdf(points[:, 0]) + stats.norm(-2, 3).logpdf(points[:, 1])
    log_q = np.asarray(jax.jit(jax.vmap(q.log_prob))(points))
    return (np.exp(log_q) * (log_q - log_p)).sum() * (x[1] - x[0]) * (y[1] - y[0])


def two_sided():
    """An honest guide that holds no Gaussian."""
    for name in ("a", "b"):
        loc = numpyro.param(f"{name}_loc", 0.0)
        scale = numpyro.param(f"{name}_scale", 1.0, constraint=dist.constraints.positive)
        numpyro.sample(name, dist.Laplace(loc, scale))


@pytest.mark.parametrize("guide", [*GUIDES, "two-sided"])
def test_a_guide_works_in_a_plain_numpyro_script(guide):
    """A family that holds Gaussians of independent coordinates has the model in it, so that
    the optimum is KL 0; one that does not must come nearer."""
    made = two_sided if guide == "two-sided" else GUIDES[guide].build(separate)
    after = trained(made)
    if families.family(made).holds is None:
        assert after < 0.8 * trained(made, 1)
        return
    # Started at 1 to 10 nats. What is left is Adam's noise at a step of 1e-4: well under
    # 1e-3 nats per parameter, and a mixture has 11 of them.
    assert abs(after) < 0.01


def test_a_guide_that_holds_no_gaussian_does_not_say_that_it_does():
    """Two Laplace distributions are never nearer to two normals than 2 × 0.0724 nats:
    KL(Laplace(0, b)‖N(0, 1)) = −log 2b − 1 + ½ log 2π + b² is least at b² = ½."""
    least = (np.log(np.pi) - 1) / 2
    assert families.family(two_sided).holds is None
    assert trained(two_sided) == pytest.approx(2 * least, abs=0.01)


# --- families ----------------------------------------------------------------------


def refused(make) -> bool:
    try:
        make()
    except TypeError:
        return True
    return False


@pytest.mark.parametrize("guide", GUIDES)
def test_a_family_offers_what_it_says(guide):
    """Each property of a family against what its method gives, and that against log q."""
    q = approximation(guide, PLANE, seed=2, size=0.2)
    family, mixture = q.family, q.mixture()
    mean, factor = np.array([0.3, -1.0]), np.array([[1.2, 0.0], [0.4, 0.7]])
    full = FullRank(mean, factor)
    near = project(full, 1, np.random.default_rng(0))
    both = {Covariances.FULL, Covariances.DIAGONAL}

    log_weights, u = q.strata(jax.random.key(0), 2)
    assert u.shape == (family.num_components, 2, 2)
    assert log_weights.shape == (family.num_components,)
    single = mixture is not None and len(mixture.weights) == 1
    assert family.covariances is None or single
    assert (family.gaussian(q.params, PLANE) is not None) == (family.covariances in both)
    assert refused(lambda: family.in_frame(q.params, PLANE, Frame(mean, factor))) != (
        family.can_be_framed
    )
    assert refused(lambda: family.from_low_rank(near, PLANE)) != (
        family.covariances is Covariances.LOW_RANK
    )
    assert refused(lambda: family.rank(2)) != (family.covariances is Covariances.LOW_RANK)
    assert refused(lambda: family.at_mode(mean, PLANE)) != family.sits_at_a_mode
    assert refused(lambda: family.from_gaussian(mean, factor, PLANE)) != (
        family.covariances in both
    )
    some = families.GaussianMixture(np.ones(1), mean[None], (factor @ factor.T)[None])
    assert refused(lambda: family.from_mixture(mixture or some, PLANE)) != family.has_projection


def covariance_of(family, params) -> tuple[np.ndarray, np.ndarray]:
    _, (mean,), (covariance,) = family.to_mixture(params, PLANE)
    return np.asarray(mean), np.asarray(covariance)


@pytest.mark.parametrize("guide", GUIDES)
def test_a_family_becomes_the_gaussian_that_it_is_given(guide):
    family = approximation(guide, PLANE).family
    mean, factor = np.array([0.3, -1.0]), np.array([[1.2, 0.0], [0.4, 0.7]])
    truth = factor @ factor.T
    match family.covariances:
        case Covariances.FULL:
            params = family.from_gaussian(mean, factor, PLANE)
        case Covariances.DIAGONAL:
            params, truth = family.from_gaussian(mean, factor, PLANE), np.diag(np.diag(truth))
        case Covariances.LOW_RANK:
            near = project(FullRank(mean, factor), family.rank(2), np.random.default_rng(0))
            params, truth = family.from_low_rank(near, PLANE), near.root @ near.root.T
        case None:
            pytest.skip("no single Gaussian")
    found = covariance_of(family, params)
    np.testing.assert_allclose(found[0], mean, rtol=1e-12)
    # a low rank keeps a share of 1e-6 of each scale, which the guide has no parameter for
    np.testing.assert_allclose(found[1], truth, atol=1e-5)
    held = family.gaussian(params, PLANE)
    if held is not None:
        np.testing.assert_allclose(held.root @ held.root.T, truth, rtol=1e-12)


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


def _knows_q_alone(metric: str, e: Evidence) -> bool:
    return METRICS[metric].measure(replace(e, test=None, floor=None))[ALL].value is not None


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("constant", [0.0, 1.0, -1e300])
def test_an_entry_that_never_varies_is_nothing_to_measure(metric, constant):
    """The upper triangle of a Cholesky factor; also where the fit alone lets it vary."""
    plain = line_evidence(1000)
    fixed = np.full((1000, 2), constant)

    def with_entries(draws, entries):
        return replace(draws, values=draws.values | {"L": entries})

    test, floor = (with_entries(d, fixed) for d in (plain.test, plain.floor))
    for entries in (fixed, np.random.default_rng(0).normal(size=fixed.shape)):
        e = replace(plain, q=with_entries(plain.q, entries), test=test, floor=floor)
        if entries is fixed or not _knows_q_alone(metric, plain):
            assert METRICS[metric].measure(e) == METRICS[metric].measure(plain)


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


# --- solvers -----------------------------------------------------------------------


def divergences(reference) -> list:
    """Every divergence as it is by default, and with each switch of its options on."""
    made = []
    for module in DIVERGENCES.values():
        switches = [n for n, p in catalogue.options(module.build).items() if p.default is False]
        made.append(module.build(reference))
        made += [module.build(reference, **{name: True}) for name in switches]
    return made


def suited(solver):
    """A guide of the catalogue and a divergence, of those that the solver ranks highest; the
    divergence is None where it fits nothing."""
    losses = [*divergences(SimpleNamespace(train=some_draws(512))), None]
    ranks = [
        (rank, guide, loss)
        for guide in (module.build(plane) for module in GUIDES.values())
        for loss in losses
        if (rank := solver.suits(guide, loss)) is not None
    ]
    return max(ranks, key=lambda one: one[0])[1:]


def check_fit(fit: Fit, problem: Problem) -> None:
    """What every solver owes."""
    assert isinstance(fit.status, Status)
    assert fit.message
    assert isinstance(fit.approximation, GuideApproximation)
    assert fit.approximation.guide is problem.guide
    wanted = jax.eval_shape(
        lambda key: families.first_parameters(problem.guide, problem.target, key), problem.key
    )
    found = families.arrays(fit.approximation.params)
    assert {k: v.shape for k, v in found.items()} == {
        k: v.shape for k, v in families.arrays(wanted).items()
    }
    assert all(np.isfinite(np.asarray(value)).all() for value in found.values())
    assert isinstance(fit.cost, Cost)
    for spent in (fit.cost.compile_seconds, fit.cost.log_density_evaluations,
                  fit.cost.gradient_evaluations):  # fmt: skip
        assert spent is None or spent >= 0
    assert fit.losses.ndim == 2
    if fit.status is Status.GIVEN:
        assert not fit.restarts
        return
    assert fit.status in (Status.CONVERGED, Status.NOT_CONVERGED, Status.UNKNOWN)
    assert fit.remedy or fit.status is Status.CONVERGED
    assert isinstance(fit.restarts, tuple)
    assert all(isinstance(row, Restart) for row in fit.restarts)
    assert len(fit.losses) == len(fit.restarts) >= problem.restarts
    assert fit.losses.shape[1] > 0
    best = fit.restarts[fit.chosen]
    assert best.status == "finished"
    assert best.basin == 0, "Restart.basin of the chosen restart is 0, of others 1, 2, ..."
    assert np.isfinite(best.loss)


def check_foresight(method, problem: Problem, fit: Fit):
    """What a solver expects to take is within a factor of ten of what it took: a normal is the
    easiest of targets, and a search of few steps ends sooner than the usual one."""
    if not isinstance(method, Foresees):
        return
    expected, took = method.expected(problem), fit.cost.gradient_evaluations
    assert expected.programs >= 0
    assert expected.seconds >= 0
    assert took / 10 <= expected.gradients <= 10 * took


@pytest.mark.parametrize("solver", SOLVERS)
def test_a_solver_solves_a_normal(solver):
    """Its mean within 0.15 of its sds, which 512 draws of it miss by 0.04."""
    made, loss = suited(SOLVERS[solver])
    seen = []
    tell = lambda done, total, words: seen.append((done, total, words))
    problem = Problem.of(PLANE, made, loss, jax.random.key(0), 2, tell)
    build = SOLVERS[solver].build
    few = {n: min(1000, p.default) for n, p in catalogue.options(build).items() if n == "steps"}
    method = build(**few)
    if loss is None:  # nothing is fitted, so it must be told what to take
        method = replace(method, params=families.first_parameters(made, PLANE, problem.key))
    fit = method.solve(problem)
    check_fit(fit, problem)
    check_foresight(method, problem, fit)
    assert all(done >= 0 and words for done, _, words in seen)
    assert all(done <= total for done, total, _ in seen if total is not None)
    if loss is not None:
        assert seen, "nobody was told how it goes on"
        mean = np.asarray(fit.approximation.sample(jax.random.key(1), 20_000).u).mean(axis=0)
        sds = np.sqrt(np.diag(PLANE_COVARIANCE))
        assert (np.abs(mean - PLANE_MEAN) < 0.15 * sds).all()


@pytest.mark.parametrize("guide", GUIDES)
def test_a_problem_has_its_guide_set_up(guide):
    made = GUIDES[guide].build(plane)
    with pytest.raises(ValueError, match="has not been set up"):
        Problem(PLANE, made, None, jax.random.key(0), 1)
    problem = Problem.of(PLANE, made, None, jax.random.key(0), 1)
    assert problem.guide.prototype_trace is not None
    assert Problem(PLANE, made, None, jax.random.key(0), 1).guide is made


def test_costs_add_up_and_what_is_not_known_stays_so():
    assert Cost(1.0, 2, 3) + Cost(0.5, 1, 0) == Cost(1.5, 3, 3)
    assert Cost(1.0, 2, 3) + Cost(0.5) == Cost(1.5, None, None)
    assert Cost() == Cost(None, None, None)


def test_the_script_of_three_peaks_can_be_prepared():
    target = script("three_peaks").study.target()
    assert target.dim == 1
    assert target.normalised
