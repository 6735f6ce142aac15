"""What is predicted of the data: what fits cost there, and whether a model fits at all.

Oracles: a normal mean with known noise, of which every predictive density is a normal; ArviZ's own
functions on the groups of fits.nc.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from scipy import stats

from vi_compare import Given, Settings, Study
from vi_compare.comparison import Comparison
from vi_compare.evidence import Draws
from vi_compare.predictions.checks import check, miscalibrated
from vi_compare.predictions.loo import LeftOut
from vi_compare.predictions.observed import Observed, Outcomes, Pointwise, observed, pointwise
from vi_compare.report import render
from vi_compare.report.advice import advice
from vi_compare.report.predicted import findings, misfit
from vi_compare.report.view import View
from vi_compare.target import Target

N = 20_000
Y = np.random.default_rng(0).normal(1.0, 1.0, 20)
PRECISION = 1 / 9 + len(Y)
MEAN, SD = Y.sum() / PRECISION, PRECISION**-0.5


def mean_of(y):
    m = numpyro.sample("m", dist.Normal(0, 3))
    with numpyro.plate("row", len(y)):
        numpyro.sample("y", dist.Normal(m, 1), obs=y)


def exact(key, n):
    return {"m": MEAN + SD * jax.random.normal(key, (n,))}


def given(shift=0.0, scale=1.0, name="given"):
    """A normal that is off by so many sds, and so many times as wide."""
    return Given(name, "mixture:1", weights=[1.0], means=[MEAN + shift * SD], sds=[scale * SD])


def run(*fits, model=mean_of, data=None, **own):
    data = {"y": Y} if data is None else data
    return Study(model, data=data, fits=fits, **own).run(Settings(draws=N))


@pytest.fixture(scope="module")
def found():
    fits = given(name="right"), given(shift=4.0, name="shifted"), given(scale=6.0, name="wide")
    return run(*fits, exact=exact)


def test_the_loss_is_the_divergence_between_predictive_densities(found):
    """Of N(m₁, v₁) from N(m₂, v₂), summed over 20 observations. Within 4.5 standard errors."""
    v1 = 1 + SD**2
    for shift, scale, i in ((4.0, 1.0, 1), (0.0, 6.0, 2)):
        v2, gap = 1 + (scale * SD) ** 2, shift * SD
        truth = len(Y) * 0.5 * (np.log(v2 / v1) + (v1 + gap**2) / v2 - 1)
        loss = found.results["fits"][i]["metrics"]["elpd_loss"]
        assert abs(loss["value"] - truth) < 4.5 * loss["standard_error"]
        assert loss["standard_error"] < 0.15 * truth
    right = found.results["fits"][0]["metrics"]["elpd_loss"]
    assert right["value"] < 4.5 * right["standard_error"]


def test_weighted_draws_leave_out_of_the_target_whatever_the_fit(found):
    """Why the loss is not a difference of elpds: by ArviZ's loo_approximate_posterior a fit that
    is far off has the elpd of the target. In closed form each observation is normal given the
    others; the error of weights is some hundredths of a nat here."""
    rest = PRECISION - 1
    means, variances = (MEAN * PRECISION - Y) / rest, 1 + 1 / rest
    truth = stats.norm.logpdf(Y, means, np.sqrt(variances)).sum()
    elpds = [fit["predictions"]["elpd"] for fit in found.results["fits"]]
    for elpd in (found.results["target"]["observed"]["reference"]["elpd"], elpds[0], elpds[2]):
        assert elpd["value"] == pytest.approx(truth, abs=0.1)
    assert found.results["fits"][2]["metrics"]["elpd_loss"]["value"] > 1.0
    assert elpds[1]["value"] is None  # four sds off: the weights are too heavy
    assert "k̂" in elpds[1]["reason"]


def test_arviz_runs_on_what_is_kept(found, tmp_path):
    import arviz_plots as azp
    import arviz_stats as azs
    import matplotlib.pyplot as plt

    found.save(tmp_path / "kept")
    kept = Comparison.load(tmp_path / "kept")
    reference, wide = kept.draws["reference"], kept.draws["fits/wide"]
    ours = kept.results["target"]["observed"]["reference"]["elpd"]
    loo = azs.loo(reference, pointwise=True)
    # Log likelihoods are kept in single precision.
    assert loo.elpd == pytest.approx(ours["value"], abs=1e-4)
    assert loo.se == pytest.approx(ours["standard_error"], rel=1e-4)
    log_p, log_q = (wide["log_likelihood"][name] for name in ("log_p", "log_q"))
    approximate = azs.loo_approximate_posterior(wide, log_p, log_q, pointwise=True)
    ours = kept.results["fits"][2]["predictions"]["elpd"]
    assert approximate.elpd == pytest.approx(ours["value"], abs=1e-4)
    table = azs.compare({"reference": loo, "wide": approximate})
    assert set(table.index) == {"reference", "wide"}
    for plot in (azp.plot_ppc_dist, azp.plot_loo_pit, azp.plot_ppc_pit):
        plot(wide, backend="matplotlib")
        plt.close("all")
    assert list(reference["observed_data"]["y"].dims) == ["row"]
    np.testing.assert_allclose(reference["observed_data"]["y"], Y)


def test_advice_for_prediction_rests_on_the_loss(found):
    told = {one.use: one for one in advice(View.of(found))}
    assert [fit.key for fit in told["For prediction"].fits] == ["right"]
    assert "elpd" in told["For prediction"].why
    assert "For probabilities" not in told  # total variation stays in the matrix


def test_where_nothing_is_observed_nothing_is_predicted():
    def prior():
        numpyro.sample("x", dist.Normal())

    found = run(Given("q", "mixture:1", weights=[1], means=[0.0], sds=[1.0]), model=prior, data={})
    loss = found.results["fits"][0]["metrics"]["elpd_loss"]
    assert loss["value"] is None
    assert loss["reason"] == "nothing is observed"
    assert found.results["fits"][0]["predictions"] is None
    told = {one.use for one in advice(View.of(found))}
    assert {"For probabilities"} <= told
    assert "For prediction" not in told
    assert 'id="predictions"' not in render(found)


def trajectories():
    """Ten of them with speeds of their own; the model has one speed for all."""
    rng = np.random.default_rng(0)
    t = np.linspace(0.1, 1, 10)
    return {"t": t, "y": rng.normal(5, 1, (10, 1)) * t + rng.normal(0, 0.05, (10, 10))}


def one_speed(t, y):
    v = numpyro.sample("v", dist.Normal(5, 1))
    numpyro.sample("y", dist.Normal(v * t, 0.05), obs=y)


def test_a_faithful_fit_of_a_model_that_does_not_fit():
    found = run("mvn/reverse-kl", model=one_speed, data=trajectories())
    assert found.verdicts == {"mvn/reverse-kl": "Faithful"}
    assert misfit(View.of(found)) == "The model does not fit y, whatever the guide."
    page = render(found)
    assert "they are more spread" in page
    assert "broken" not in page


def test_without_a_reference_nothing_is_blamed_on_the_model():
    study = Study(one_speed, data=trajectories(), fits=["mvn/reverse-kl"])
    found = study.run(Settings(reference="none"))
    assert misfit(View.of(found)) == ""
    loss = found.results["fits"][0]["metrics"]["elpd_loss"]
    assert loss["value"] is None
    seen = found.results["fits"][0]["predictions"]["sites"]["y"]
    assert seen["check"]["p_value"] < 0.01
    assert 'id="predictions"' in render(found)


def of_mean(rng, n, noise=1.0, s=1_000):
    """The check of data from a normal mean, by exact draws, where the model's noise is 1."""
    y = rng.normal(0.0, noise, n)
    precision = 1 / 9 + n
    m = rng.normal(y.sum() / precision, precision**-0.5, s)
    log_lik = stats.norm.logpdf(y, m[:, None], 1)
    at = Pointwise(log_lik, rng.normal(m[:, None], 1, (s, n)))
    site = Observed("y", Outcomes.CONTINUOUS, y, np.arange(n), n, (n,), ("row",))
    return check(at, LeftOut(site, at), rng)


def test_models_that_are_right_are_seldom_called_wrong():
    """At 1 % each, of 150 data sets more than 6 would be below once in 1,000."""
    rng = np.random.default_rng(3)
    p = [of_mean(rng, 40).p_value for _ in range(150)]
    assert sum(value < 0.01 for value in p) <= 6


def test_too_little_noise_is_found():
    rng = np.random.default_rng(4)
    found = [of_mean(rng, 60, noise=2.0) for _ in range(20)]
    assert sum(one.p_value < 0.01 for one in found) >= 19
    assert np.mean([one.below + one.above for one in found]) > 0.3


def test_chances_are_checked_by_their_calibration():
    """Right chances: at 1 %, of 150 more than 6 would be below once in 1,000. Chances that are too
    sure by a factor of two in their logits are found in nearly all."""
    rng = np.random.default_rng(5)
    right, wrong = [], []
    for i in range(150):
        logits = rng.normal(0, 1.5, 200)
        y = rng.uniform(size=200) < 1 / (1 + np.exp(-logits))
        right.append(miscalibrated(1 / (1 + np.exp(-logits)), y, rng, repeats=199))
        if i < 20:
            wrong.append(miscalibrated(1 / (1 + np.exp(-2.5 * logits)), y, rng))
    assert sum(p < 0.01 for p in right) <= 6
    assert sum(p < 0.01 for p in wrong) >= 18


def test_counts_that_are_more_spread_than_a_poisson_are_found():
    def poisson(y):
        rate = numpyro.sample("rate", dist.Gamma(2, 0.5))
        with numpyro.plate("row", len(y)):
            numpyro.sample("y", dist.Poisson(rate), obs=y)

    rng = np.random.default_rng(6)
    wrong = run("mvn/reverse-kl", model=poisson, data={"y": rng.negative_binomial(2, 0.3, 120)})
    right = run("mvn/reverse-kl", model=poisson, data={"y": rng.poisson(4.0, 120)})
    assert [f.fits for f in findings(View.of(wrong))] == [False]
    assert [f.fits for f in findings(View.of(right))] == [True]
    assert wrong.results["target"]["observed"]["sites"]["y"]["outcomes"] == "count"
    assert "broken" not in render(wrong)


def seen_of(model, **data):
    """What is looked at of a model's observations, at a few draws of its prior."""
    target = Target(model, (), data)
    draws = target.complete(jax.random.normal(jax.random.key(1), (50, target.dim)))
    return target, draws, *observed(target, draws, jax.random.key(0), most=30)


def test_a_mask_leaves_observations_out_and_a_factor_is_none():
    y = np.arange(6.0)

    def masked(y):
        m = numpyro.sample("m", dist.Normal(0, 3))
        numpyro.factor("prior", -m)
        with numpyro.plate("row", 6), numpyro.handlers.mask(mask=y > 1):
            numpyro.sample("y", dist.Normal(m, 1), obs=y)

    target, draws, sites, reasons = seen_of(masked, y=y)
    assert not reasons
    (site,) = sites
    np.testing.assert_array_equal(site.rows, [2, 3, 4, 5])
    at = pointwise(target, sites, draws, jax.random.key(2))["y"]
    truth = stats.norm.logpdf(y[2:], np.asarray(draws.values["m"])[:, None], 1)
    np.testing.assert_allclose(at.log_lik, truth, rtol=1e-10)
    assert at.replicates.shape == (50, 4)


def test_of_many_observations_some_are_looked_at():
    def many(y):
        m = numpyro.sample("m", dist.Normal(0, 3))
        numpyro.sample("y", dist.Normal(m, 1).expand([40, 5]).to_event(0), obs=y)

    _, _, (site,), _ = seen_of(many, y=np.arange(200.0).reshape(40, 5))
    assert site.of == 200
    assert len(set(site.rows)) == 30
    np.testing.assert_array_equal(site.values, site.rows)


@pytest.mark.parametrize(
    ("observe", "why"),
    [
        (lambda m, y: numpyro.sample("y", dist.Normal(0, 1), obs=y - m), "depends on latent"),
        (
            lambda m, y: numpyro.sample("y", dist.MultivariateNormal(m + jnp.zeros(4), jnp.eye(4)),
                                        obs=y),
            "single observation",
        ),
    ],
)  # fmt: skip
def test_what_cannot_be_left_out_says_why(observe, why):
    def model(y):
        observe(numpyro.sample("m", dist.Normal(0, 3)), y)

    *_, sites, reasons = seen_of(model, y=np.arange(4.0))
    assert not sites
    assert why in reasons["y"]


def test_vectors_are_predicted_and_not_ranked():
    rng = np.random.default_rng(7)

    def vectors(y):
        m = numpyro.sample("m", dist.Normal(0, 3))
        with numpyro.plate("row", 12):
            numpyro.sample("y", dist.MultivariateNormal(m + jnp.zeros(2), jnp.eye(2)), obs=y)

    found = run("mvn/reverse-kl", model=vectors, data={"y": rng.normal(size=(12, 2))})
    fit = found.results["fits"][0]
    assert fit["metrics"]["elpd_loss"]["value"] < 0.05
    seen = fit["predictions"]["sites"]["y"]["check"]
    assert seen["p_value"] is None
    assert "vectors" in seen["reason"]
    assert "broken" not in render(found)


@pytest.mark.parametrize("how", ["distribution", "factor"])
def test_censored_observations_are_blamed_on_no_model(how):
    """Times of which some are cut off at 3, in both ways that people write it: those that are not
    are shorter than the model's, as they must be."""
    rng = np.random.default_rng(8)
    y = rng.exponential(2.0, 80)
    data = {"y": np.minimum(y, 3.0), "cut": y > 3.0}

    def by_distribution(y, cut):
        scale = numpyro.sample("scale", dist.Gamma(2, 1))
        with numpyro.plate("row", 80):
            fn = dist.RightCensoredDistribution(dist.Exponential(1 / scale), cut)
            numpyro.sample("y", fn, obs=y)

    def by_factor(y, cut):
        scale = numpyro.sample("scale", dist.Gamma(2, 1))
        with numpyro.handlers.mask(mask=~cut):
            numpyro.sample("y", dist.Exponential(1 / scale), obs=y)
        numpyro.factor("alive", -jnp.where(cut, y / scale, 0.0).sum())

    model = by_distribution if how == "distribution" else by_factor
    found = run("mvn/reverse-kl", model=model, data=data)
    fit = found.results["fits"][0]
    assert fit["predictions"]["elpd"]["value"] is not None
    seen = fit["predictions"]["sites"]["y"]["check"]
    assert seen["p_value"] is None
    assert seen["reason"]
    assert misfit(View.of(found)) == ""
    assert "broken" not in render(found)


def test_several_sites_have_a_loss_each():
    def two(a, b):
        m = numpyro.sample("m", dist.Normal(0, 3))
        numpyro.sample("a", dist.Normal(m, 1), obs=a)
        numpyro.sample("b", dist.Bernoulli(logits=m * jnp.ones(15)), obs=b)

    rng = np.random.default_rng(9)
    found = run("mvn/reverse-kl", model=two, data={"a": Y, "b": rng.integers(0, 2, 15)})
    by = found.results["fits"][0]["metrics"]["elpd_loss"]["by"]
    assert set(by) == {"a", "b"}
    assert {s["outcomes"] for s in found.results["target"]["observed"]["sites"].values()} == {
        "continuous",
        "binary",
    }
    assert "broken" not in render(found)


def test_draws_made_elsewhere_predict_too():
    """Their log q is not known, so nothing can be left out by weights; the loss needs none."""
    m = np.asarray(exact(jax.random.key(5), 5_000)["m"])
    found = run(Given("elsewhere", draws={"m": m + 3 * SD}), exact=exact)
    fit = found.results["fits"][0]
    v = 1 + SD**2
    truth = len(Y) * (3 * SD) ** 2 / (2 * v)
    loss = fit["metrics"]["elpd_loss"]
    assert abs(loss["value"] - truth) < 4.5 * loss["standard_error"]
    assert fit["predictions"]["elpd"]["value"] is None


def test_draws_stay_a_plain_record():
    """What `_rows` picks must be of every chain alike."""
    from vi_compare.run.predicting import _rows

    draws = Draws(jnp.zeros((60, 1)), {}, chains=3)
    assert _rows(draws, 30).tolist() == [i + j for i in (0, 20, 40) for j in range(0, 20, 2)]
