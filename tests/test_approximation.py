"""Approximation: log q over u of NumPyro's guides and of guides written by hand."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from jax.flatten_util import ravel_pytree
from numpyro.infer.autoguide import AutoDelta
from oracles import THREE_PEAKS, Line, pack, reverse_kl, slope, unpack
from scipy import special, stats
from targets import approximation, kitchen_sink

from vi_compare.approximation import DrawsApproximation, GuideApproximation
from vi_compare.divergences.reverse_kl import ReverseKL
from vi_compare.errors import InputError
from vi_compare.target import Target

SINK = Target(kitchen_sink)

# --- NumPyro's guides ------------------------------------------------------------------


def plain_gaussian(name, params):
    """Weights, means and covariances over u, from the raw parameters."""
    p = {k: np.asarray(v) for k, v in params.items()}
    order = np.arange(SINK.dim)  # this model is traced in the same order by both
    if name == "normal":
        names = [s.name for s in SINK.sites]
        loc, scale = (
            np.concatenate([np.ravel(p[f"{n}_auto_{what}"]) for n in names])
            for what in ("loc", "scale")
        )
        return [1.0], [loc], [np.diag(scale**2)]
    if name == "mixture":
        w = special.softmax(p["auto_logits"])
        covariances = [t @ t.T for t in p["auto_scale_trils"]]
        return w, p["auto_locs"][:, order], [c[np.ix_(order, order)] for c in covariances]
    if name == "diagonal":
        covariance = np.diag(p["auto_scale"] ** 2)
    elif name == "lowrank":
        factor = p["auto_scale"][:, None] * p["auto_cov_factor"]
        covariance = np.diag(p["auto_scale"] ** 2) + factor @ factor.T
    else:
        covariance = p["auto_scale_tril"] @ p["auto_scale_tril"].T
    return [1.0], [p["auto_loc"][order]], [covariance[np.ix_(order, order)]]


@pytest.mark.parametrize("name", ["normal", "diagonal", "mvn", "lowrank", "mixture"])
def test_log_q_is_the_plain_gaussian_on_u_even_far_out(name):
    """Through the constrained value it would be off at |u| = 30 by nats, or infinite."""
    q = approximation(name, SINK, seed=5, size=0.3)
    rng = np.random.default_rng(0)
    u = np.concatenate([rng.normal(size=(3, SINK.dim)), rng.choice([-30.0, 30.0], (5, SINK.dim))])
    parts = [
        np.log(w) + stats.multivariate_normal(m, c).logpdf(u)
        for w, m, c in zip(*plain_gaussian(name, q.params), strict=True)
    ]
    ours = jax.jit(jax.vmap(q.log_prob))(u)
    # Covariances here have condition numbers of at most 1e4.
    np.testing.assert_allclose(ours, special.logsumexp(parts, axis=0), rtol=1e-9)


# --- guides written by hand -------------------------------------------------------------


def sites():
    numpyro.sample("scale", dist.LogNormal(0.0, 1.0))
    numpyro.sample("rate", dist.Gamma(2.0, 1.0))
    numpyro.sample("share", dist.Uniform(0.0, 1.0))
    numpyro.sample("place", dist.Normal(0.0, 1.0))


def by_hand():
    a = numpyro.param("a", 2.5, constraint=dist.constraints.positive)
    numpyro.sample("place", dist.Normal(-0.3, 0.6))
    numpyro.sample("share", dist.Beta(a, 4.0))
    numpyro.sample("scale", dist.LogNormal(0.2, 0.5))
    numpyro.sample("rate", dist.Gamma(3.0, 2.0))


BY_HAND = GuideApproximation(by_hand, {"a": jnp.asarray(2.5)}, Target(sites))


def by_hand_log_q(u):
    """Over u: log q(z) + log|dz/du| per site, in the order of the model."""
    scale, rate, share = np.exp(u[:, 0]), np.exp(u[:, 1]), special.expit(u[:, 2])
    return (
        stats.lognorm(0.5, scale=np.exp(0.2)).logpdf(scale) + u[:, 0]
        + stats.gamma(3, scale=0.5).logpdf(rate) + u[:, 1]
        + stats.beta(2.5, 4).logpdf(share)
        + special.log_expit(u[:, 2]) + special.log_expit(-u[:, 2])
        + stats.norm(-0.3, 0.6).logpdf(u[:, 3])
    )  # fmt: skip


def test_a_guide_by_hand_gets_its_jacobians():
    u = np.random.default_rng(4).normal(size=(10, 4)) * 1.5
    ours = jax.jit(jax.vmap(BY_HAND.log_prob))(u)
    # share stays within 1e-3 of its edges: twelve digits
    np.testing.assert_allclose(ours, by_hand_log_q(u), atol=1e-9)


def test_a_guide_by_hand_draws_what_it_says():
    """Kolmogorov-Smirnov for each of four sites: all pass but for one seed in 2,500."""
    draws = BY_HAND.sample(jax.random.key(3), 8000)
    np.testing.assert_allclose(draws.log_q, by_hand_log_q(np.asarray(draws.u)), atol=1e-7)
    truth = {
        "scale": stats.lognorm(0.5, scale=np.exp(0.2)),
        "rate": stats.gamma(3, scale=0.5),
        "share": stats.beta(2.5, 4),
        "place": stats.norm(-0.3, 0.6),
    }
    for name, law in truth.items():
        assert stats.kstest(np.asarray(draws.values[name]), law.cdf).pvalue > 1e-4


def test_a_lognormal_by_hand_is_exact_far_out():
    model = lambda: numpyro.sample("z", dist.HalfNormal(1.0))
    guide = lambda: numpyro.sample("z", dist.LogNormal(0.2, 0.5))
    q = GuideApproximation(guide, {}, Target(model))
    u = np.array([[-700.0], [-30.0], [30.0], [800.0]])  # exp(800) is infinite
    truth = stats.norm(0.2, 0.5).logpdf(u[:, 0])
    np.testing.assert_allclose(jax.vmap(q.log_prob)(u), truth, rtol=1e-12)


def test_a_guide_whose_support_is_another_is_moved_to_the_coordinates_of_the_model():
    """u belongs to the model: here the guide lives on (0, 1) and the site on (0, 2)."""
    model = lambda: numpyro.sample("z", dist.Uniform(0.0, 2.0))
    guide = lambda: numpyro.sample("z", dist.Beta(2.0, 3.0))
    q = GuideApproximation(guide, {}, Target(model))
    draws = q.sample(jax.random.key(0), 4000)
    z = np.asarray(draws.values["z"])
    assert stats.kstest(z, stats.beta(2, 3).cdf).pvalue > 1e-4
    u = np.asarray(draws.u)[:, 0]
    jacobian = np.log(2) + special.log_expit(u) + special.log_expit(-u)
    np.testing.assert_allclose(draws.log_q, stats.beta(2, 3).logpdf(z) + jacobian, atol=1e-8)


# --- a mixture written by hand ----------------------------------------------------------


def line_model():
    numpyro.sample(
        "x",
        dist.MixtureSameFamily(
            dist.Categorical(probs=jnp.asarray(THREE_PEAKS.weights)),
            dist.Normal(jnp.asarray(THREE_PEAKS.means), jnp.asarray(THREE_PEAKS.sds)),
        ),
    )


def hand_mixture():
    logit = numpyro.param("logit", 0.0)
    means = numpyro.param("means", jnp.array([-1.0, 1.0]))
    log_sds = numpyro.param("log_sds", jnp.zeros(2))
    numpyro.sample(
        "x",
        dist.MixtureSameFamily(
            dist.Categorical(logits=jnp.stack([logit, 0.0 * logit])),
            dist.Normal(means, jnp.exp(log_sds)),
        ),
    )


POINT = Line(np.array([0.45, 0.55]), np.array([-1.7, 0.3]), np.array([0.4, 0.6]))


def hand_params(theta):
    return {"logit": theta[0], "means": theta[1:3], "log_sds": theta[3:5]}


def test_the_strata_of_a_hand_written_mixture_are_its_components():
    """Means and sds of 20,000 draws each within 4.5 standard errors, one alarm in 40,000."""
    q = GuideApproximation(hand_mixture, hand_params(jnp.asarray(pack(POINT))), Target(line_model))
    log_weights, u = q.strata(jax.random.key(0), 20_000)
    np.testing.assert_allclose(np.exp(log_weights), POINT.weights, rtol=1e-12)
    assert u.shape == (2, 20_000, 1)
    z = (np.asarray(u)[..., 0] - POINT.means[:, None]) / POINT.sds[:, None]
    assert np.abs(z.mean(axis=1)).max() < 4.5 / np.sqrt(20_000)
    assert np.abs(z.std(axis=1) - 1).max() < 4.5 / np.sqrt(40_000)


def test_the_gradient_of_a_hand_written_mixture_is_right():
    """Against the quadrature objective, five parameters within 4.5 standard errors."""
    theta = jnp.asarray(pack(POINT))
    loss = ReverseKL(16)
    one = jax.grad(lambda t, key: loss.loss(key, hand_params(t), line_model, hand_mixture))
    g = jax.jit(jax.vmap(lambda key: one(theta, key)))(jax.random.split(jax.random.key(2), 3000))
    truth = slope(lambda t: reverse_kl(unpack(t)), np.asarray(theta))
    error = np.std(g, axis=0, ddof=1) / np.sqrt(len(g))
    assert abs(truth[0]) > 10 * error[0]  # the logit's slope is there to be seen
    assert np.abs((np.mean(g, axis=0) - truth) / error).max() < 4.5


# --- what is refused -------------------------------------------------------------------


def pair():
    numpyro.sample("x", dist.Normal(0.0, 1.0))
    numpyro.sample("y", dist.Normal(0.0, 1.0))


def two():
    return dist.MixtureSameFamily(
        dist.Categorical(logits=jnp.zeros(2)), dist.Normal(jnp.array([-1.0, 1.0]), 1.0)
    )


def two_mixtures():
    numpyro.sample("x", two())
    numpyro.sample("y", two())


def batch_of_mixtures():
    numpyro.sample("z", two().expand([3]).to_event(1))


def plate_of_mixtures():
    with numpyro.plate("rows", 3):
        numpyro.sample("z", two())


def vector():
    numpyro.sample("z", dist.Normal(0.0, 1.0).expand([3]).to_event(1))


def plated():
    with numpyro.plate("rows", 3):
        numpyro.sample("z", dist.Normal(0.0, 1.0))


def rough():
    numpyro.sample("x", dist.VonMises(0.0, 1.0))


def rough_mixture():
    parts = dist.VonMises(jnp.array([-1.0, 1.0]), 2.0)
    numpyro.sample("x", dist.MixtureSameFamily(dist.Categorical(logits=jnp.zeros(2)), parts))


def circle():
    numpyro.sample("x", dist.VonMises(0.0, 0.1))


@pytest.mark.parametrize(
    ("model", "guide"),
    [
        (pair, two_mixtures),
        (plated, plate_of_mixtures),
        (vector, batch_of_mixtures),
        (circle, rough),
        (circle, rough_mixture),
    ],
)
def test_what_cannot_be_stratified_is_refused_and_the_way_out_is_named(model, guide):
    with pytest.raises(InputError, match=r"TraceGraph_ELBO|reverse-kl:score"):
        ReverseKL().loss(jax.random.key(0), {}, model, guide)


def auxiliary():
    a = numpyro.sample("helper", dist.Normal(0.0, 1.0))
    numpyro.sample("x", dist.Normal(a, 1.0))
    numpyro.sample("y", dist.Normal(0.0, 1.0))


def half():
    numpyro.sample("x", dist.Normal(0.0, 1.0))


@pytest.mark.parametrize(
    ("guide", "words"),
    [(auxiliary, "also draws 'helper'"), (half, "never draws 'y'")],
)
def test_a_guide_must_draw_the_sites_of_the_model(guide, words):
    q = GuideApproximation(guide, {}, Target(pair))
    with pytest.raises(InputError, match=words):
        q.log_prob(jnp.zeros(2))
    with pytest.raises(InputError, match=words):
        q.sample(jax.random.key(0), 10)
    with pytest.raises(InputError, match=words):
        q.strata(jax.random.key(0), 10)


def test_a_point_is_refused_as_a_distribution():
    q = GuideApproximation(AutoDelta(pair), {}, Target(pair))
    with pytest.raises(InputError, match="AutoDelta is a point"):
        q.log_prob(jnp.zeros(2))


def test_stopped_cuts_the_parameters_from_the_gradient():
    q = approximation("mixture", Target(pair), seed=1)

    def value(params, stop):
        a = GuideApproximation(q.guide, params, q.target)
        return (a.stopped() if stop else a).log_prob(jnp.array([0.3, -0.2]))

    assert np.abs(ravel_pytree(jax.grad(value)(q.params, True))[0]).max() == 0
    assert np.abs(ravel_pytree(jax.grad(value)(q.params, False))[0]).max() > 0


def many_sites(n: int = 30):
    for i in range(n):
        numpyro.sample(f"x{i}", dist.Normal(0.0, 1.0))


def one_vector(n: int = 30):
    numpyro.sample("x", dist.Normal(jnp.zeros(n), 1.0).to_event(1))


@pytest.mark.parametrize("ask", ["draw", "strata", "log_prob"])
def test_many_small_sites_cost_what_one_vector_costs(ask):
    """XLA compiles every random number generator and every density of a site on its own: with
    200 sites for three minutes. What depends on sites is where each parameter stands, a
    concatenation of two inputs a site: so the program is as long but for its slices."""

    def lines(model) -> int:
        q = approximation("normal", Target(model), seed=0)
        given = {"draw": (jax.random.key(0),), "strata": (jax.random.key(0), 4),
                 "log_prob": (jnp.zeros(30),)}[ask]  # fmt: skip
        asked = lambda params, *a: getattr(GuideApproximation(q.guide, params, q.target), ask)(*a)
        jaxpr = jax.make_jaxpr(asked, static_argnums=2 if ask == "strata" else ())(q.params, *given)
        return len(jaxpr.eqns)

    # A reshape or a broadcast for each of two parameters of a site.
    assert lines(many_sites) <= lines(one_vector) + 2 * 2 * 30


# --- draws made elsewhere ---------------------------------------------------------------


def test_draws_made_elsewhere_have_no_log_q_and_say_why():
    target = Target(line_model)
    u = np.linspace(-3, 3, 50)
    q = DrawsApproximation(target.draws({"x": jnp.asarray(u)}), target, "made by Stan")
    some = q.sample(jax.random.key(0), 50)
    np.testing.assert_array_equal(np.sort(some.u[:, 0]), u)  # each once
    np.testing.assert_allclose(some.log_p, THREE_PEAKS.log_pdf(np.asarray(some.u)[:, 0]))
    assert some.log_q is None
    assert some.reason == "made by Stan"
    assert len(q.sample(jax.random.key(0), 80)) == 50  # there are no more
    np.testing.assert_array_equal(q.sample(jax.random.key(0), 20).u[:, 0], u[::3])
    for ask in (lambda: q.log_prob(u[:1]), lambda: q.strata(jax.random.key(0), 2)):
        with pytest.raises(InputError, match="made by Stan"):
            ask()
