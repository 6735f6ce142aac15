"""What goes out of a comparison: fits with their guides, tables, files, a start for NUTS.

Oracles: what was measured, bit for bit; closed forms of a normal mean; NumPyro's own NUTS.
"""

from __future__ import annotations

import subprocess
import sys

import arviz_stats as azs
import jax
import numpy as np
import numpyro
import numpyro.distributions as dist
import pandas as pd
import pytest
from numpyro.infer import MCMC, NUTS
from scipy import stats
from targets import ROOT

import vi_compare
from vi_compare import Given, Settings, Study
from vi_compare.comparison import Comparison
from vi_compare.errors import InputError
from vi_compare.files.export import export
from vi_compare.script import load

Y = np.random.default_rng(0).normal(1.0, 1.0, 20)
PRECISION = 1 / 9 + len(Y)
MEAN, SD = Y.sum() / PRECISION, PRECISION**-0.5


def model(y=None):
    m = numpyro.sample("m", dist.Normal(0, 3))
    s = numpyro.sample("s", dist.LogNormal(0, 0.2))
    numpyro.deterministic("both", m + s)
    with numpyro.plate("row", 20):
        numpyro.sample("y", dist.Normal(m, 1), obs=y)


STUDY = Study(
    model,
    data={"y": Y},
    fits=[
        "mvn/reverse-kl",
        "mixture:2/forward-kl",
        Given("wide", "mixture:1", weights=[1.0], means=[[MEAN, 0.0]], sds=[[8 * SD, 0.2]]),
        Given("draws", draws={"m": MEAN + SD * np.random.default_rng(1).normal(size=900),
                              "s": np.exp(0.2 * np.random.default_rng(2).normal(size=900))}),
    ],
)  # fmt: skip


@pytest.fixture(scope="module")
def found():
    return STUDY.run(Settings(draws=4_000))


@pytest.fixture(scope="module")
def saved(found, tmp_path_factory):
    folder = tmp_path_factory.mktemp("out") / "run"
    found.save(folder)
    return folder


def kept(found, name, group, variable):
    entry = next(fit for fit in found.fits if fit["name"] == name)
    return found.draws[entry["group"]][group][variable].values


@pytest.mark.parametrize("name", ["mvn/reverse-kl", "mixture:2/forward-kl", "wide", "draws"])
def test_a_fit_is_what_was_measured_bit_for_bit(found, saved, name):
    """In the session that made it, and loaded by its study."""
    for comparison in (found, STUDY.load(saved)):
        fit = comparison.fit(name)
        for site, drawn in fit.sample().items():
            np.testing.assert_array_equal(drawn, kept(found, name, "posterior", site)[0])
        np.testing.assert_array_equal(fit.draws["m"], fit.sample()["m"])
        if name == "draws":
            with pytest.raises(InputError, match="log q of 'draws' is not known"):
                fit.log_prob({"m": np.zeros(3), "s": np.ones(3)})
            continue
        u = kept(found, name, "unconstrained", "u")
        log_q = kept(found, name, "sample_stats", "log_q")[0]
        np.testing.assert_array_equal(fit.log_prob(u), log_q)
        # Through values a digit or two are lost.
        np.testing.assert_allclose(fit.log_prob(fit.sample()), log_q, atol=1e-9)


def test_fresh_draws_and_what_they_predict(found):
    fit = found.fit("mvn/reverse-kl")
    a, b = (fit.sample(jax.random.key(i), 5_000) for i in (1, 2))
    assert a["m"].shape == (5_000,)
    assert not np.array_equal(a["m"], b["m"])
    # Exactly normal; within 4.5 standard errors.
    assert abs(a["m"].mean() - MEAN) < 4.5 * SD / np.sqrt(5_000)
    predicted = fit.predictive(jax.random.key(3), 5_000)["y"]
    assert predicted.shape == (5_000, 20)
    sd = np.sqrt(1 + SD**2)
    assert abs(predicted.std() / sd - 1) < 4.5 / np.sqrt(2 * 5_000)
    assert fit.predictive(jax.random.key(3))["y"].shape == (4_000, 20)
    assert set(fit.params) == set(found.fits[0]["params"])
    assert fit.guide is not None


def test_predictions_of_data_to_come():
    def line(x, y=None):
        b = numpyro.sample("b", dist.Normal(0, 5))
        numpyro.sample("y", dist.Normal(b * x, 0.1), obs=y)

    x = np.linspace(0, 1, 30)
    found = vi_compare.compare(line, data=(x, 2 * x), fits=["mvn/reverse-kl"])
    fit = found.fit("mvn/reverse-kl")
    new = fit.predictive(jax.random.key(0), 2_000, x=np.array([10.0, 20.0]), y=None)["y"]
    assert new.shape == (2_000, 2)
    np.testing.assert_allclose(new.mean(axis=0), [20, 40], rtol=0.02)


def test_draws_are_reweighted_where_their_weights_allow_it(found):
    """The wide fit holds the posterior; weighted draws have its mean and sd. Of 4,000 some 500 are
    worth anything: within 4.5 standard errors of so many."""
    drawn = found.fit("wide").reweighted()
    assert len(drawn["m"]) == 4_000
    assert abs(drawn["m"].mean() - MEAN) < 4.5 * SD / np.sqrt(500)
    assert abs(drawn["m"].std() / SD - 1) < 4.5 / np.sqrt(2 * 500)
    np.testing.assert_array_equal(drawn["m"], found.fit("wide").reweighted()["m"])
    assert len(found.fit("wide").reweighted(100)["both"]) == 100
    with pytest.raises(InputError, match="has no log q"):
        found.fit("draws").reweighted()


def test_weights_that_are_too_heavy_are_refused():
    far = Given("far", "mixture:1", weights=[1.0], means=[[MEAN + 9 * SD, 0.0]], sds=[[SD, 0.2]])
    found = Study(model, data={"y": Y}, fits=[far]).run(Settings(draws=2_000))
    with pytest.raises(InputError, match="cannot be reweighted: the weights are too heavy"):
        found.fit("far").reweighted()


def test_the_reference_is_there_too(found):
    """What most users want in the end. By Kolmogorov and Smirnov, at 1e-4."""
    drawn = found.reference.draws["m"]
    thin = drawn[:: max(1, len(drawn) // 300)]
    assert stats.kstest(thin, stats.norm(MEAN, SD).cdf).pvalue > 1e-4
    nothing = Study(model, data={"y": Y}, fits=["mvn/reverse-kl"])
    with pytest.raises(InputError, match="no draws of the target"):
        nothing.run(Settings(draws=1_000, reference="none")).reference  # noqa: B018


def test_all_numbers_in_a_frame(found):
    frame = found.to_frame()
    assert isinstance(frame, pd.DataFrame)
    row = frame[(frame.fit == "wide") & (frame.metric == "forward_kl") & (frame.label == "all")]
    assert row.value.item() == found.scores["wide", "forward_kl", "all"].value
    assert {"standard_error", "unit", "floor", "n", "reason"} <= set(frame.columns)


def test_a_run_that_was_loaded_alone_has_draws_and_no_guide(saved):
    fit = Comparison.load(saved).fit("mvn/reverse-kl")
    assert fit.draws["both"].shape == (4_000,)
    assert len(fit.reweighted(10)["m"]) == 10
    assert not hasattr(fit, "guide")


def test_a_study_of_another_target_does_not_load_it(saved):
    def other(y=None):
        numpyro.sample("x", dist.Normal(0, 3))

    with pytest.raises(InputError, match="holds a run of sites"):
        Study(other, data={"y": Y}).load(saved)


@pytest.mark.parametrize("ending", ["nc", "csv", "npz"])
@pytest.mark.parametrize("reweighted", [False, True])
def test_what_is_exported_comes_back(found, tmp_path, ending, reweighted):
    """As a reference of the next run: the same draws."""
    fit = found.fit("wide")
    path = export(fit, tmp_path / "new" / f"draws.{ending}", reweighted)
    again = Study(model, data={"y": Y}, fits=[Given("again", draws=str(path))])
    back = again.run(Settings(draws=4_000, reference="none")).fit("again").sample()
    drawn = fit.reweighted() if reweighted else fit.draws
    np.testing.assert_allclose(back["m"], drawn["m"], rtol=1e-12)


BAD = {
    "no such fit": (["--fit", "mvm/reverse-kl", "--to", "a.nc"], "there is no fit"),
    "no such form": (["--fit", "wide", "--to", "a.txt"], "must end in .nc, .csv, .npz"),
    "no weights": (["--fit", "draws", "--to", "a.nc", "--reweighted"], "has no log q"),
    "a folder": (["--fit", "wide", "--to", "folder.nc"], "is a folder"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_cannot_be_exported_is_told_in_a_line(saved, in_process, tmp_path, name):
    (tmp_path / "folder.nc").mkdir()
    words, said = BAD[name]
    status, out, err = in_process("export", str(saved), *words)
    assert status == 2
    assert out == ""
    assert said in err
    assert err.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["folder.nc"]


def test_export_by_the_command(saved, in_process, tmp_path):
    status, out, _ = in_process("export", str(saved), "--fit", "reference", "--to", "draws.csv")
    assert (status, out.strip()) == (0, "draws.csv")
    assert {"m", "s", "both"} <= set(pd.read_csv(tmp_path / "draws.csv").columns)


def test_a_start_for_nuts_is_in_its_own_order():
    """Sites stand in NUTS by their names and in the model by their place: scales of 0.01 and 100
    tell them apart, and a step is long only where each has its own."""

    def scales():
        numpyro.sample("z", dist.Normal(0, 0.01))
        numpyro.sample("a", dist.Normal(0, 100).expand([2]).to_event(1))

    found = vi_compare.compare(scales, fits=["mvn/reverse-kl"])
    start = found.fit("mvn/reverse-kl").warm_start(chains=2)
    assert {k: v.shape for k, v in start.init_params.items()} == {"z": (2,), "a": (2, 2)}
    sds = np.sqrt(np.diag(start.inverse_mass_matrix))
    np.testing.assert_allclose(sds, [100, 100, 0.01], rtol=0.1)
    mcmc = start.mcmc(num_samples=500, chain_method="sequential", progress_bar=False)
    mcmc.run(jax.random.key(0), init_params=start.init_params, extra_fields=("num_steps",))
    assert mcmc.get_extra_fields()["num_steps"].mean() < 8
    diagonal = found.fit("mvn/reverse-kl").warm_start(chains=1, most_dense=2)
    assert diagonal.inverse_mass_matrix.shape == (3,)
    assert not diagonal.dense_mass
    assert diagonal.init_params["a"].shape == (2,)


def test_a_plain_session_gets_plain_arrays(tmp_path):
    (tmp_path / "session.py").write_text(
        """
import jax, numpy as np, numpyro, numpyro.distributions as dist
import vi_compare
def model(y):
    m = numpyro.sample("m", dist.Normal(0, 3))
    numpyro.sample("y", dist.Normal(m, 1), obs=y)
found = vi_compare.compare(model, data={"y": np.arange(5.0)}, fits=["mvn/reverse-kl"])
fit = found.fit("mvn/reverse-kl")
start = fit.warm_start(chains=1)
mcmc = start.mcmc(num_samples=200, progress_bar=False)
mcmc.run(jax.random.key(0), y=np.arange(5.0), init_params=start.init_params)
print(fit.sample()["m"].dtype, type(fit.log_prob(fit.sample())).__name__,
      fit.predictive(jax.random.key(1), 10)["y"].shape, mcmc.get_samples()["m"].dtype)
"""
    )
    done = subprocess.run(
        [sys.executable, "session.py"], cwd=tmp_path, capture_output=True, text=True, check=False,
        env={"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["float64", "ndarray", "(10,", "5)", "float32"]


# --- what a warm start saves ------------------------------------------------------------------


def gradients_to(worth, mcmc, warmup):
    """Gradients until the smallest bulk ESS of the sites is `worth`, by what a finished run took:
    those of the warm-up, and of as many draws as are needed."""
    steps = np.asarray(mcmc.get_extra_fields(group_by_chain=True)["num_steps"])
    import arviz_base as azb

    ess = azs.ess(azb.from_dict({"posterior": mcmc.get_samples(group_by_chain=True)}))
    smallest = min(float(a.min()) for a in ess.data_vars.values())
    return warmup + steps.sum() * worth / smallest, smallest


def run_nuts(kernel, study, chains, num_warmup, seed, **start):
    """Warm-up and draws, each with its steps counted, for sites of the model alone."""
    data = study.data() if callable(study.data) else dict(study.data or {})
    mcmc = MCMC(kernel, num_warmup=num_warmup, num_samples=1_000, num_chains=chains,
                chain_method="sequential", progress_bar=False)  # fmt: skip
    mcmc.warmup(jax.random.key(seed), **data, **start, extra_fields=("num_steps",),
                collect_warmup=True)  # fmt: skip
    warmup = int(np.asarray(mcmc.get_extra_fields()["num_steps"]).sum())
    mcmc.run(jax.random.key(seed + 1), **data, extra_fields=("num_steps",))
    return mcmc, warmup


# Of the first five k̂ says that the fit is near, and its covariance is the metric. Of the others
# NUTS learns a metric all the same, and nothing is promised but that little is lost.
SAVED = {
    "conjugate_regression": 2.0,
    "eight_schools_noncentred": 2.0,
    "breast_cancer": 2.0,
    "gaussian_process": 2.0,
    "many_well": 2.0,
    "varying_slopes": 0.5,
    "stochastic_volatility": 0.5,
    "banana": 0.5,
}


@pytest.mark.slow
@pytest.mark.parametrize("name", SAVED)
def test_a_warm_start_saves_gradients(name):
    """To a smallest bulk ESS of 1,000 of all sites, four chains, against NumPyro's NUTS with its
    1,000 draws of warm-up."""
    study = load(ROOT / "models" / f"{name}.py")
    quick = vi_compare.Study(study.model, data=study.data, fits=["mvn/reverse-kl"])
    start = quick.run(Settings(draws=4_000, reference="none")).fit("mvn/reverse-kl").warm_start()
    cold, cold_warmup = run_nuts(NUTS(study.model), quick, 4, 1_000, 0)
    warm, warm_warmup = run_nuts(
        start.kernel(), quick, 4, start.num_warmup, 0, init_params=start.init_params
    )
    a, cold_ess = gradients_to(1_000, cold, cold_warmup)
    b, warm_ess = gradients_to(1_000, warm, warm_warmup)
    print(
        f"\n{name}: {a:,.0f} gradients cold (ESS {cold_ess:.0f}), {b:,.0f} warm "
        f"(ESS {warm_ess:.0f}): {a / b:.1f} times fewer"
    )
    assert a / b > SAVED[name]
