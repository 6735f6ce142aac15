"""Target: its density over u for every support, its facts, and what it refuses."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from numpyro import handlers
from numpyro.distributions import constraints
from scipy import special, stats
from targets import kitchen_sink

from vi_compare.errors import InputError
from vi_compare.target import Target

EPS = np.finfo(float).eps

# --- densities over u, by hand --------------------------------------------------------
#
# Per support: the map from u to the coordinates that scipy's density is over, and the log
# density there. At moderate u the Jacobian is taken numerically; at |u| = 30 a closed form
# that never forms the constrained value stands beside it.


def simplex(u):
    rest, out = 1.0, []
    for i, x in enumerate(u):
        z = special.expit(x - np.log(len(u) - i))
        out.append(rest * z)
        rest *= 1 - z
    return np.array(out)  # the last entry is what remains


def log_simplex(u):
    x = u - np.log(len(u) - np.arange(len(u)))
    inside, left = special.log_expit(x), special.log_expit(-x)
    before = np.concatenate([[0.0], np.cumsum(left)])
    return np.append(inside + before[:-1], before[-1]), left


def correlations(u):
    """Row by row, a signed broken stick on squares of tanh; then R = L Lᵀ below its diagonal."""
    t, row, k = np.tanh(u), np.zeros((3, 3)), 0
    for i in range(3):
        rest = 1.0
        for j in range(i):
            row[i, j] = t[k] * np.sqrt(rest)
            rest *= 1 - t[k] ** 2
            k += 1
        row[i, i] = np.sqrt(rest)
    r = row @ row.T
    return np.array([r[1, 0], r[2, 0], r[2, 1]])


def lkj_log_pdf(r, eta=1.7, d=3):
    """Density over correlation matrices (Lewandowski, Kurowicka and Joe 2009, eq. 16)."""
    matrix = np.array([[1, r[0], r[1]], [r[0], 1, r[2]], [r[1], r[2], 1]])
    log_c = 0.0
    for k in range(1, d):
        a = eta + (d - k - 1) / 2
        log_c += (d - k) * ((2 * eta - 2 + d - k) * np.log(2) + special.betaln(a, a))
    return (eta - 1) * np.log(np.linalg.det(matrix)) - log_c


def ordered(u):
    return np.cumsum(np.concatenate([u[:1], np.exp(u[1:])]))


ALPHA = np.array([1.5, 2.0, 3.0])


def closed_simplex(u):
    log_x, left = log_simplex(u)
    norm = special.gammaln(ALPHA.sum()) - special.gammaln(ALPHA).sum()
    return norm + (ALPHA - 1) @ log_x + (log_x[:-1] + left).sum()


def site(distribution):
    def model():
        numpyro.sample("z", distribution())

    return model


def improper_ordered():
    z = numpyro.sample("z", dist.ImproperUniform(constraints.ordered_vector, (), (3,)))
    numpyro.factor("data", dist.Normal(0.0, 2.0).log_prob(z).sum())


CASES = {
    # name: (model, dim, forward, log pdf there, closed form over u, error at |u| = 30)
    "real": (
        site(lambda: dist.Normal(0.5, 2.0).expand([2]).to_event(1)), 2, lambda u: u,
        lambda x: stats.norm(0.5, 2).logpdf(x).sum(),
        lambda u: stats.norm(0.5, 2).logpdf(u).sum(), lambda u: 1e-12,
    ),
    "positive, gamma": (
        site(lambda: dist.Gamma(2.0, 3.0)), 1, np.exp,
        lambda x: stats.gamma(2, scale=1 / 3).logpdf(x).sum(),
        lambda u: (2 * np.log(3) + 2 * u - 3 * np.exp(u)).sum(),
        # 3 exp(30) ~ 3e13, of which the last digits are lost: relative 1e-15
        lambda u: 1e-15 * 3 * np.exp(np.abs(u).max()) + 1e-12,
    ),
    "positive, lognormal": (
        site(lambda: dist.LogNormal(-0.5, 0.8)), 1, np.exp,
        lambda x: stats.lognorm(0.8, scale=np.exp(-0.5)).logpdf(x).sum(),
        # log(exp(u)) is off by one rounding of u, times the slope 30 / 0.64
        lambda u: stats.norm(-0.5, 0.8).logpdf(u).sum(), lambda u: 1e-12,
    ),
    "interval, uniform": (
        site(lambda: dist.Uniform(-1.0, 3.0)), 1, lambda u: -1 + 4 * special.expit(u),
        lambda x: stats.uniform(-1, 4).logpdf(x).sum(),
        lambda u: (special.log_expit(u) + special.log_expit(-u)).sum(), lambda u: 1e-12,
    ),
    "interval, beta": (
        site(lambda: dist.Beta(2.0, 5.0)), 1, special.expit,
        lambda x: stats.beta(2, 5).logpdf(x).sum(),
        lambda u: (2 * special.log_expit(u) + 5 * special.log_expit(-u)).sum()
        - special.betaln(2, 5),
        # 1 − z = 9e-14 holds three digits at u = 30, and log(1 − z) is taken four times
        lambda u: 4 * EPS / special.expit(-30.0),
    ),
    "simplex": (
        site(lambda: dist.Dirichlet(jnp.asarray(ALPHA))), 2, simplex,
        lambda x: stats.dirichlet(ALPHA).logpdf(np.append(x, 1 - x.sum())),
        closed_simplex,
        # the same 1 − z, in every later entry and its Jacobian
        lambda u: 8 * EPS / special.expit(-30.0),
    ),
    "ordered": (
        site(lambda: dist.TransformedDistribution(
            dist.Normal(0.0, 1.0).expand([3]).to_event(1), dist.transforms.OrderedTransform())),
        3, lambda u: u, lambda x: stats.norm.logpdf(x).sum(),
        lambda u: stats.norm.logpdf(u).sum(),
        # exp(−30) is added to sums of 30 or 1e13 and taken out again; it comes back with an
        # error of ulp/exp(−30), or as 0. Only a gap that survives can be held to its value.
        lambda u: 30 * 2 * EPS * 30 / np.exp(-30.0) if u[1:].min() < 0 else 1e-9,
    ),
    "ordered, improper with a factor": (
        improper_ordered, 3, ordered, lambda x: stats.norm(0, 2).logpdf(x).sum(),
        lambda u: stats.norm(0, 2).logpdf(ordered(u)).sum() + u[1:].sum(),
        lambda u: 1e-14 * np.exp(2 * np.abs(u).max()),
    ),
    "corr cholesky": (
        site(lambda: dist.LKJCholesky(3, 1.7)), 3, correlations, lkj_log_pdf, None, None,
    ),
}  # fmt: skip


def log_det(forward, u, step=1e-6):
    eye = np.eye(len(u)) * step
    jacobian = np.stack([(forward(u + e) - forward(u - e)) / (2 * step) for e in eye], axis=1)
    return np.linalg.slogdet(jacobian)[1]


@pytest.mark.parametrize("name", CASES)
def test_the_density_over_u_holds_the_jacobian(name):
    model, dim, forward, log_pdf, _, _ = CASES[name]
    target = Target(model)
    assert target.dim == dim
    points = np.random.default_rng(3).normal(size=(6, dim))
    ours = jax.jit(jax.vmap(target.log_density))(points)
    truth = [log_pdf(forward(u)) + log_det(forward, u) for u in points]
    # Central differences of step 1e-6 are good to about 1e-9 relative.
    np.testing.assert_allclose(ours, truth, atol=1e-7)


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case[4]])
def test_the_density_far_out_is_as_good_as_the_constrained_value(name):
    """The model's density goes through its constrained values, so it can be no better
    than they are; the tolerance of each support says how good that is."""
    model, dim, _, _, closed, tolerance = CASES[name]
    target = Target(model)
    signs = np.array(np.meshgrid(*[[-30.0, 30.0]] * dim)).reshape(dim, -1).T
    if name.startswith("ordered"):
        # After a step of exp(30) a step of exp(−30) is below the last digit: no density.
        signs = np.array([u for u in signs if not (u[1] > 0 > u[2])])
    ours = np.asarray(jax.jit(jax.vmap(target.log_density))(signs))
    for u, value in zip(signs, ours, strict=True):
        assert value == pytest.approx(closed(u), abs=tolerance(u)), u


def test_values_go_into_u_and_back():
    target = Target(kitchen_sink)
    u = np.random.default_rng(1).normal(size=(20, target.dim)) * 2
    values = jax.jit(jax.vmap(target.constrain))(u)
    back = jax.jit(jax.vmap(target.unconstrain))(values)
    # |u| < 7 or so: 1 − sigmoid(7) = 1e-3 and 1 − tanh(7)² = 3e-6 keep ten digits.
    np.testing.assert_allclose(back, u, atol=1e-8)


def test_values_lie_in_their_supports_in_the_order_of_the_model():
    target = Target(kitchen_sink)
    names = ["real", "positive", "lognormal", "interval", "beta", "simplex", "ordered", "corr"]
    assert [s.name for s in target.sites] == names
    sizes = [2, 1, 1, 1, 1, 2, 3, 3]
    assert [s.size for s in target.sites] == sizes
    u = np.random.default_rng(2).normal(size=target.dim)
    value = target.constrain(u)
    start = dict(zip(names, np.cumsum([0, *sizes[:-1]]), strict=True))
    np.testing.assert_allclose(value["real"], u[:2])
    np.testing.assert_allclose(value["positive"], np.exp(u[start["positive"]]))
    np.testing.assert_allclose(value["interval"], -1 + 4 * special.expit(u[start["interval"]]))
    np.testing.assert_allclose(value["ordered"], ordered(u[8:11]))
    np.testing.assert_allclose(value["simplex"][:2], simplex(u[6:8]))
    np.testing.assert_allclose(
        value["corr"] @ value["corr"].T, np.eye(3) + sym(correlations(u[11:]))
    )


def sym(r):
    return np.array([[0, r[0], r[1]], [r[0], 0, r[2]], [r[1], r[2], 0]])


def test_draws_come_back_with_u_and_log_p():
    target = Target(site(lambda: dist.LogNormal(0.3, 0.7)))
    z = np.exp(np.random.default_rng(0).normal(0.3, 0.7, 5000))  # more than one batch
    draws = target.draws({"z": jnp.asarray(z)})
    assert draws.u.shape == (5000, 1)
    np.testing.assert_allclose(draws.u[:, 0], np.log(z), atol=1e-14)
    np.testing.assert_allclose(draws.log_p, stats.norm(0.3, 0.7).logpdf(np.log(z)), atol=1e-12)
    assert draws.log_q is None


def test_a_support_may_depend_on_another_site():
    def model():
        top = numpyro.sample("top", dist.LogNormal(0.0, 1.0))
        numpyro.sample("part", dist.Uniform(0.0, top))

    target = Target(model)
    u = np.array([0.4, -0.9])
    value = target.constrain(u)
    assert value["part"] == pytest.approx(np.exp(0.4) * special.expit(-0.9))
    np.testing.assert_allclose(target.unconstrain(value), u, atol=1e-12)
    truth = stats.norm.logpdf(0.4) + special.log_expit(-0.9) + special.log_expit(0.9)
    assert float(target.log_density(u)) == pytest.approx(truth, abs=1e-12)


# --- whether log Z is 0 ---------------------------------------------------------------


def plain():
    with numpyro.plate("items", 3):
        numpyro.sample("z", dist.Normal(0.0, 1.0))


def observed():
    numpyro.sample("y", dist.Normal(numpyro.sample("z", dist.Normal(0.0, 1.0)), 1.0), obs=0.3)


def factored():
    numpyro.factor("f", -(numpyro.sample("z", dist.Normal(0.0, 1.0)) ** 2))


def improper():
    numpyro.sample("z", dist.ImproperUniform(constraints.positive, (), ()))


def scaled():
    with handlers.scale(scale=2.0):
        numpyro.sample("z", dist.Normal(0.0, 1.0))


def masked():
    with handlers.mask(mask=jnp.array([True, False, True])):
        numpyro.sample("z", dist.Normal(0.0, 1.0).expand([3]))


def minibatch():
    y = jnp.arange(10.0)
    z = numpyro.sample("z", dist.Normal(0.0, 1.0))
    with numpyro.plate("rows", 10, subsample_size=4) as rows:
        numpyro.sample("y", dist.Normal(z, 1.0), obs=y[rows])


def test_plain_priors_are_normalised():
    assert Target(plain).normalised
    assert Target(kitchen_sink).normalised
    assert Target(plain).subsampled == ()


@pytest.mark.parametrize("model", [observed, factored, improper, scaled, masked])
def test_what_has_no_known_normaliser_is_not_normalised(model):
    assert not Target(model).normalised


def test_minibatches_are_seen_and_their_key_fixes_them():
    one, again, other = (Target(minibatch, key=jax.random.key(k)) for k in (1, 1, 2))
    assert one.subsampled == ("rows",)
    u = np.array([0.5])
    assert float(one.log_density(u)) == float(again.log_density(u))
    assert float(one.log_density(u)) != float(other.log_density(u))


def test_without_a_key_all_data_count_and_minibatches_are_unbiased_for_them():
    """E over minibatches of the scaled log likelihood is that of all rows."""
    u = np.array([0.5])
    y = np.arange(10.0)
    whole = stats.norm.logpdf(0.5) + stats.norm.logpdf(y, 0.5).sum()
    np.testing.assert_allclose(Target(minibatch).log_density(u), whole, rtol=1e-12)
    one = lambda key: Target(minibatch, key=key).log_density(u)
    some = jax.vmap(one)(jax.random.split(jax.random.key(0), 200))
    # 200 independent minibatches; 4 standard errors are crossed once in 16,000 runs.
    assert abs(np.mean(some) - whole) < 4 * np.std(some, ddof=1) / np.sqrt(200)


# --- what is refused ------------------------------------------------------------------


def local():
    with numpyro.plate("items", 10, subsample_size=3):
        numpyro.sample("z", dist.Normal(0.0, 1.0))


def discrete():
    numpyro.sample("z", dist.Normal(0.0, 1.0))
    numpyro.sample("count", dist.Poisson(3.0))


def nothing():
    numpyro.sample("y", dist.Normal(0.0, 1.0), obs=0.0)


def learned():
    numpyro.sample("z", dist.Normal(numpyro.param("theta", 0.0), 1.0))


def mutable():
    numpyro.sample("z", dist.Normal(0.0, 1.0))
    from numpyro.primitives import mutable as state

    state("counter", {"n": 0})


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (discrete, "'count' is discrete"),
        (nothing, "no latent site"),
        (learned, "param site 'theta'"),
        (mutable, "mutable site 'counter'"),
    ],
)
def test_what_cannot_be_approximated_is_refused_by_name(model, words):
    with pytest.raises(InputError, match=words):
        _ = Target(model).dim


def in_plates():
    with numpyro.plate("county", 4):
        numpyro.sample("slopes", dist.Normal(0.0, 1.0).expand([2]).to_event(1))
        with numpyro.plate("year", 3):
            numpyro.sample("effect", dist.Normal(0.0, 1.0))


def test_axes_are_called_by_their_plates():
    dims = {site.name: site.dims for site in Target(in_plates).sites}
    assert dims == {"slopes": ("county", "slopes_dim_1"), "effect": ("year", "county")}


# --- data that are one minibatch; networks with priors -----------------------------------


def test_a_minibatch_handed_to_a_longer_plate_is_refused_in_one_line():
    def model(x, n):
        rate = numpyro.sample("rate", dist.Gamma(1.0, 1.0))
        with numpyro.plate("batch", n, subsample_size=x.shape[0]):
            numpyro.sample("x", dist.Poisson(rate), obs=x)

    with pytest.raises(InputError, match=r"plate 'batch' .* give all rows as data") as caught:
        _ = Target(model, (jnp.ones(50, int), 1000)).sites
    assert "\n" not in str(caught.value)


def test_a_minibatch_that_broadcasts_is_refused_too():
    """One row against a plate of 1,000 would count 1,000 times without a word."""

    def model(x, n):
        rate = numpyro.sample("rate", dist.Gamma(1.0, 1.0))
        with numpyro.plate("batch", n, subsample_size=1):
            numpyro.sample("x", dist.Poisson(rate), obs=x)

    with pytest.raises(InputError, match=r"'batch' has 1,000 rows and the data of site 'x' fewer"):
        _ = Target(model, (jnp.ones(1, int), 1000)).sites


def test_all_rows_with_a_minibatch_of_them_are_taken():
    def model(x):
        rate = numpyro.sample("rate", dist.Gamma(1.0, 1.0))
        with numpyro.plate("batch", len(x), subsample_size=10) as rows:
            numpyro.sample("x", dist.Poisson(rate), obs=x[rows])

    x = jnp.arange(50) % 4
    target = Target(model, (x,))
    assert target.subsampled == ("batch",)
    # Gamma(1 + Σx, 1 + n), over u = log rate
    u = jnp.array([0.3])
    right = dist.Gamma(1.0 + x.sum(), 51.0)
    change = target.log_density(u) - target.log_density(jnp.zeros(1))
    wanted = right.log_prob(jnp.exp(0.3)) + 0.3 - right.log_prob(1.0)
    assert change == pytest.approx(float(wanted), abs=1e-9)


def network(x, y, prior):
    """y = w x + b by NumPyro's own way of giving a network's parameters a prior."""
    from functools import partial

    from numpyro.contrib.module import _update_params

    params = numpyro.param("net$params", {"w": jnp.zeros(()), "b": jnp.zeros(())})
    drawn = dict(params)
    with handlers.scope(prefix="net"):
        _update_params(params, drawn, prior)
    net = partial(lambda p, x: p["w"] * x + p["b"], drawn)
    numpyro.sample("y", dist.Normal(net(x), 0.5), obs=y)


def test_a_network_whose_parameters_all_have_priors_is_a_target():
    """Conjugate: precision DᵀD/σ² + diag(1, 1/6.25), from the textbook."""
    x = jnp.linspace(-1.0, 2.0, 9)
    y = 0.7 * x + 0.2
    prior = {"w": dist.Normal(0.0, 1.0), "b": dist.Normal(0.0, 2.5)}
    target = Target(network, (x, y, prior))
    assert {site.name for site in target.sites} == {"net/w", "net/b"}
    design = np.column_stack([x if s.name == "net/w" else np.ones(9) for s in target.sites])
    scale = np.array([1.0 if s.name == "net/w" else 2.5 for s in target.sites])
    precision = design.T @ design / 0.25 + np.diag(1 / scale**2)
    found = -np.asarray(jax.hessian(target.log_density)(jnp.zeros(2)))
    np.testing.assert_allclose(found, precision, rtol=1e-9)


def test_a_network_of_which_one_parameter_has_no_prior_is_refused():
    with pytest.raises(InputError, match="param site 'net\\$params'"):
        _ = Target(network, (jnp.ones(3), jnp.ones(3), {"w": dist.Normal(0.0, 1.0)})).sites
