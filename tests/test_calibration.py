"""Simulation-based calibration: replicates in closed form, planted faults by name, going on."""

from __future__ import annotations

import json
import textwrap
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from numpyro import handlers
from scipy import stats
from targets import ROOT

from vi_compare import Study
from vi_compare import script as scripts
from vi_compare.calibration import Around, CalibrationSettings, Calibrator
from vi_compare.calibration.facts import write
from vi_compare.calibration.kept import Ranks
from vi_compare.calibration.ranks import Misfit, RankTests, holm
from vi_compare.calibration.refits import refitter
from vi_compare.calibration.replicate import Replicate, simulated
from vi_compare.report.sbc import render, words
from vi_compare.run.progress import Silent
from vi_compare.settings import Settings
from vi_compare.target import Target

Y = jnp.array([0.3, -1.1, 2.0, 0.8])


def location(y):
    """N(0, 2²) prior, noise of 1: everything is known."""
    theta = numpyro.sample("theta", dist.Normal(0.0, 2.0))
    with numpyro.plate("rows", len(y)):
        numpyro.sample("y", dist.Normal(theta, 1.0), obs=y)


def exact(*data):
    """Mean and sd of theta given all these observations."""
    y = np.concatenate([np.asarray(one) for one in data])
    precision = 1 / 4 + len(y)
    return y.sum() / precision, precision**-0.5


def calibrated(study, folder, *, around="prior", n=100, seed=0, run=None):
    """(calibration.json, ranks) of the study's one fit."""
    settings = CalibrationSettings(Around(around), n)
    made = Calibrator.of(study, run or Settings(seed), settings, Silent())
    return made.run(folder, Silent())


def misfits(found):
    """{margin: what it is accused of}."""
    return {one["label"]: one["misfits"] for one in found["margins"]}


# --- replicates ----------------------------------------------------------------------------


def masked(y, seen):
    """A constrained site, a plate, a mask, two observed sites of which one is discrete."""
    sigma = numpyro.sample("sigma", dist.HalfNormal(1.5))
    with numpyro.plate("rows", len(y)), handlers.mask(mask=seen):
        numpyro.sample("y", dist.Normal(1.0, sigma), obs=y)
    numpyro.sample("count", dist.Poisson(3.0 * sigma), obs=jnp.array(4))


def density(u, data, seen):
    """log p(u, data) of `masked`, by SciPy."""
    sigma = np.exp(u[0])
    prior = stats.halfnorm.logpdf(sigma, scale=1.5) + u[0]  # the Jacobian of exp
    return prior + likelihood(sigma, data, seen)


def likelihood(sigma, data, seen):
    each = stats.norm.logpdf(np.asarray(data["y"]), 1.0, sigma)
    return each[seen].sum() + stats.poisson.logpmf(int(data["count"]), 3 * sigma)


@pytest.mark.parametrize("beside", [False, True])
def test_a_replicate_has_the_density_of_other_data(beside):
    seen = np.array([True, False, True, True])
    target = Target(masked, (), {"y": Y, "seen": jnp.asarray(seen)})
    data = {"y": Y[::-1] + 0.5, "count": jnp.array(2)}
    log_p = jax.jit(lambda u, data: Replicate.of(target, data, beside).log_density(u))
    for u in np.linspace(-1, 1, 5)[:, None]:
        expected = density(u, data, seen)
        if beside:
            own = {"y": Y, "count": 4}
            expected = density(u, own, seen) + likelihood(np.exp(u[0]), data, seen)
        assert float(log_p(u, data)) == pytest.approx(expected, abs=1e-10)


def walk(y):
    """Every step begins where the last one was observed."""
    step = numpyro.sample("step", dist.Normal(0.0, 1.0))
    at = 0.0
    for i in range(3):
        at = numpyro.sample(f"y{i}", dist.Normal(at + step, 0.5), obs=y[i])


def test_data_that_depend_on_earlier_data_are_drawn_in_turn():
    target = Target(walk, (), {"y": Y})
    keys = jax.random.split(jax.random.key(1), 20_000)
    made = jax.jit(jax.vmap(lambda key: simulated(target, key)))(keys)
    columns = np.stack([made.values["step"], *(made.data[f"y{i}"] for i in range(3))])
    k = np.arange(1, 4)
    expected = np.outer(k, k) + 0.25 * np.minimum.outer(k, k)
    # Errors of a covariance of 20,000 draws are about its size / 100; the largest entry is 9.75.
    np.testing.assert_allclose(np.cov(columns)[1:, 1:], expected, atol=0.5)
    np.testing.assert_allclose(np.cov(columns)[0, 1:], k, atol=0.15)


def test_data_given_values_are_drawn_at_these_values():
    target = Target(location, (), {"y": Y})
    keys = jax.random.split(jax.random.key(1), 4_000)
    draw = lambda key: simulated(target, key, {"theta": jnp.array(5.0)})
    made = jax.jit(jax.vmap(draw))(keys)
    assert (np.asarray(made.values["theta"]) == 5).all()
    assert np.asarray(made.data["y"]).mean() == pytest.approx(5, abs=4 / np.sqrt(16_000))


def rows_by_fours(y):
    theta = numpyro.sample("theta", dist.Normal(0.0, 2.0))
    with numpyro.plate("rows", len(y), subsample_size=2) as i:
        numpyro.sample("y", dist.Normal(theta, 1.0), obs=y[i])


@pytest.mark.parametrize("model", [location, rows_by_fours])
@pytest.mark.parametrize("beside", [False, True])
def test_a_gaussian_is_refitted_exactly_also_where_plates_see_minibatches(model, beside):
    from vi_compare.approximation import GuideApproximation, set_up
    from vi_compare.catalogue import load
    from vi_compare.divergences.reverse_kl import ReverseKL

    target = Target(model, (), {"y": Y})
    guide = load("guides", "mvn").build(model)
    set_up(guide, target, jax.random.key(0))
    mean, sd = exact(Y)
    params = {"auto_loc": jnp.array([mean]), "auto_scale_tril": jnp.array([[sd]])}
    refits = refitter(GuideApproximation(guide, params, target), ReverseKL(), beside)
    for far in (0.0, 30.0):  # data from the prior can be far from the observed ones
        data = {"y": Y[::-1] + far}
        found = refits.refit(data, jax.random.key(2))
        mean, sd = exact(*([Y] if beside else []), data["y"])
        assert found.converged
        assert float(found.params["auto_loc"][0]) == pytest.approx(mean, abs=1e-6)
        assert float(found.params["auto_scale_tril"][0, 0]) == pytest.approx(sd, rel=1e-6)


@pytest.mark.parametrize("around", ["prior", "posterior"])
def test_ranks_are_those_of_the_exact_posterior(around, tmp_path):
    study = Study(location, data={"y": Y}, fits=["mvn/reverse-kl"], restarts=2)
    run = Settings(reference=None if around == "prior" else "none")
    made = Calibrator.of(study, run, CalibrationSettings(Around(around), 40), Silent())
    found, ranks = made.run(tmp_path, Silent())
    key = made.key
    from vi_compare.randomness import split

    p = []
    if around == "prior":
        target = study.target()
        for i in range(40):
            one = simulated(target, split(jax.random.fold_in(key, i), 3)[0])
            mean, sd = exact(one.data["y"])
            p.append(stats.norm.cdf(float(one.values["theta"]), mean, sd))
        # A share of 1,999 draws has a standard error of 0.011 at most; 40 of them stay within 4.
        np.testing.assert_allclose(ranks.ps[:, 0], p, atol=0.045)
    assert found["values_from"] == ("prior" if around == "prior" else "fit")
    assert misfits(found) == {"theta": [], "log p": []}
    assert found["not_converged"] == found["failed"] == 0


def backwards(y):
    """Sites and what is computed of them, in no order of the alphabet; a and z are what they are
    without data, and all that differs is the guide's."""
    z = numpyro.sample("z", dist.Normal(0.0, 1.0).expand([2]).to_event(1))
    numpyro.deterministic("minus", -z[0])
    a = numpyro.sample("a", dist.Normal(0.0, 1.0))
    numpyro.sample("y", dist.Normal(0.0 * a, 1.0), obs=y)


def narrow_in_z(y):
    loc = numpyro.param("loc", 0.0)
    numpyro.sample("z", dist.Normal(jnp.zeros(2), jnp.array([0.3, 1.0])).to_event(1))
    numpyro.sample("a", dist.Normal(loc, 1.0))


def test_a_fault_is_found_in_the_margin_that_has_it(tmp_path):
    guides = {"narrow": narrow_in_z}
    study = Study(
        backwards, data={"y": 0.3}, fits=["narrow/reverse-kl"], guides=guides, restarts=1
    )  # fmt: skip
    found = misfits(calibrated(study, tmp_path, n=40)[0])
    off = {label for label, accused in found.items() if "too sure" in accused}
    assert off - {"log p"} == {"z[0]", "minus"}
    assert list(found) == ["z[0]", "z[1]", "a", "minus", "log p"]


# --- tests of ranks ------------------------------------------------------------------------


def ranks_of(x, rng, draws=1999):
    """Shares of so many draws of N(0, 1) below x."""
    below = rng.binomial(draws, stats.norm.cdf(x))
    return (below + rng.uniform(size=x.shape)) / (draws + 1)


def test_holm_is_the_textbook_procedure():
    p = np.array([0.01, 0.04, 0.03, 0.005])
    np.testing.assert_allclose(holm(p), [0.03, 0.06, 0.06, 0.02])


def test_right_fits_are_accused_no_more_often_than_stated():
    """1,000 right fits in five independent margins of 100 data sets: 5 to 17 were accused with
    seeds 3 to 12, 10.6 on average, where 10 are allowed. Fails by chance in 1 of 1,000 seeds."""
    rng, tests = np.random.default_rng(3), RankTests()
    accused = 0
    for _ in range(1000):
        ps = ranks_of(rng.normal(size=(5, 100)), rng)
        found = tests.judge({str(i): p for i, p in enumerate(ps)})
        accused += any(one.misfits for one in found.values())
    assert accused <= stats.binom.ppf(0.999, 1000, tests.level)


def test_errors_of_the_reference_are_not_blamed_on_the_fit():
    """True values taken from 400 draws, 200 of them, by which the right fits are judged in two
    margins: the 400 err, too. 500 times, seed 7: 8 accused, and 34 by who takes them for the
    truth. Fails by chance in 1 of 1,000 seeds at the level stated."""
    rng = np.random.default_rng(7)
    accused = {np.inf: 0, 400.0: 0}
    for _ in range(500):
        pool = rng.normal(size=(2, 400))
        ps = ranks_of(pool[:, rng.integers(400, size=200)], rng)
        for worth in accused:
            found = RankTests(worth=worth).judge({"x": ps[0], "y": ps[1]})
            accused[worth] += any(one.misfits for one in found.values())
    assert accused[400.0] <= stats.binom.ppf(0.999, 500, RankTests().level)
    assert accused[400.0] < accused[np.inf]


@pytest.mark.parametrize("n", [50, 200])
@pytest.mark.parametrize("margins", [1, 20])
def test_the_power_stated_is_the_power_there_is(n, margins):
    """Faults of the sizes stated, 1,000 times each: 0.9 of them are named. Ranks are among 1,999
    draws, as the command has them, which costs up to 0.02; 3 standard errors are 0.03. Seeds 4 to
    13 gave 0.864 to 0.923."""
    rng, tests = np.random.default_rng(4), RankTests()
    power = tests.power(n, margins)
    # The correction for other margins, none of which is off, divides the level.
    strict = replace(tests, level=tests.level / margins)
    faults = {
        Misfit.LOW: lambda x: x + power.shift,
        Misfit.HIGH: lambda x: x - power.shift,
        Misfit.NARROW: lambda x: x / power.narrow,
        Misfit.WIDE: lambda x: x / power.wide,
    }
    for misfit, change in faults.items():
        x = change(rng.normal(size=(1000, n)))
        judged = (strict.judge({"fault": p})["fault"] for p in ranks_of(x, rng))
        seen = np.mean([misfit in one.misfits for one in judged])
        assert seen == pytest.approx(tests.probability, abs=0.05), misfit


def test_a_shape_that_is_neither_shifted_nor_wide_is_seen():
    rng = np.random.default_rng(5)
    # Two points with the mean and the variance of N(0, 1).
    x = rng.choice([-1.0, 1.0], 200) + 0.05 * rng.normal(size=200)
    found = RankTests().judge({"x": ranks_of(x / x.std() - x.mean(), rng)})
    assert found["x"].misfits == (Misfit.SHAPE,)


# --- planted faults ------------------------------------------------------------------------


def fixed_width(factor):
    """The right family but for a width that is `factor` times the right one for four rows."""

    def guide(y):
        loc = numpyro.param("loc", 0.0)
        numpyro.sample("theta", dist.Normal(loc, factor * (1 / 4 + 4) ** -0.5))

    return guide


def held_back(y):
    """It cannot go as far up as data call for."""
    loc = numpyro.param("loc", -0.5, constraint=dist.constraints.less_than(0.0))
    scale = numpyro.param("scale", 0.5, constraint=dist.constraints.positive)
    numpyro.sample("theta", dist.Normal(loc, scale))


PLANTED = {
    "too sure": (fixed_width(0.6), "prior"),
    "too diffuse": (fixed_width(1.7), "prior"),
    "too low": (held_back, "posterior"),
}


@pytest.mark.parametrize("word", PLANTED)
def test_a_planted_fault_is_named(word, tmp_path):
    guide, around = PLANTED[word]
    guides = {"planted": guide}
    study = Study(
        location, data={"y": Y + 1.0}, fits=["planted/reverse-kl"], guides=guides, restarts=1,
        exact=None if around == "prior" else drawn_exactly,
    )  # fmt: skip
    found, _ = calibrated(study, tmp_path, around=around, n=50)
    assert word in misfits(found)["theta"]
    assert words.verdict(found)[0] == "Miscalibrated"


def drawn_exactly(key, n):
    mean, sd = exact(Y + 1.0)
    return {"theta": mean + sd * jax.random.normal(key, (n,))}


BLIND = """
    import jax, jax.numpy as jnp, numpyro
    import numpyro.distributions as dist
    from vi_compare import Study

    def model(y):
        x = numpyro.sample("x", dist.Normal(0.0, 3.0))
        numpyro.sample("y", dist.Normal(jnp.abs(x), 0.3), obs=y)

    def exact(key, n):
        # One of two modes: the identities that draws are checked by hold in each.
        precision = 1 / 9 + 1 / 0.09
        return {"x": SIDE * (3 / 0.09 / precision + precision**-0.5 * jax.random.normal(key, (n,)))}

    study = Study(model, data={"y": 3.0}, exact=exact, fits=["mvn/reverse-kl"], restarts=1)
"""


def test_what_reference_and_fit_both_miss_is_seen(tmp_path):
    """The mode that the fit ends in is all that the reference knows: every number of the comparison
    is perfect, and the ranks are not."""
    for side in (1.0, -1.0):
        path = tmp_path / f"blind{side:+g}.py"
        path.write_text(textwrap.dedent(BLIND).replace("SIDE", str(side)), encoding="utf-8")
        study = scripts.load(path)
        if study.run(Settings(draws=2000), Silent()).verdicts["mvn/reverse-kl"] == "Faithful":
            break
    else:
        pytest.fail("the fit is in neither mode")
    found, _ = calibrated(study, tmp_path / "prior")
    assert "too sure" in misfits(found)["x"]
    near, _ = calibrated(study, tmp_path / "posterior", around="posterior")
    assert misfits(near)["x"] == []
    assert "as to a mode that it misses" in words.sentences(near)[-1]


# --- going on ------------------------------------------------------------------------------


class Impatient(Silent):
    """Presses Ctrl-C at a data set."""

    def __init__(self, at):
        self.at = at

    def progress(self, done, total, words):
        if total == 60 and done == self.at:
            raise KeyboardInterrupt


def test_a_calibration_goes_on_bit_for_bit(tmp_path):
    study = Study(location, data={"y": Y}, fits=["mvn/reverse-kl"], restarts=2)
    whole, expected = calibrated(study, tmp_path / "whole", n=60)
    folder = tmp_path / "parts"
    calibrated(study, folder, n=20)
    made = Calibrator.of(study, Settings(), CalibrationSettings(Around.PRIOR, 60), Silent())
    with pytest.raises(KeyboardInterrupt):
        made.run(folder, Impatient(33))
    assert len(Ranks.load(folder)) == 33
    found, ranks = made.run(folder, Silent())
    assert found["taken_up"] == 33
    np.testing.assert_array_equal(ranks.ps, expected.ps)
    assert found["margins"] == whole["margins"]
    # Fewer are the first of them, and cost nothing that is kept.
    fewer, _ = calibrated(study, folder, n=25)
    assert fewer["simulations"] == 25
    assert len(Ranks.load(folder)) == 60


@pytest.mark.parametrize("change", ["seed", "around", "fit", "data", "broken"])
def test_another_question_is_begun_anew(change, tmp_path):
    study = Study(location, data={"y": Y}, fits=["mvn/reverse-kl"], restarts=2)
    calibrated(study, tmp_path, n=20)
    other = {
        "fit": replace(study, fits=["normal/reverse-kl"]),
        "data": replace(study, data={"y": Y + 0.1}),
    }
    if change == "broken":
        (tmp_path / Ranks.file).write_bytes(b"no archive")
    found, _ = calibrated(
        other.get(change, study), tmp_path, n=20,
        seed=int(change == "seed"), around="posterior" if change == "around" else "prior",
        run=Settings(reference="none") if change == "around" else None,
    )  # fmt: skip
    assert found["taken_up"] == 0


# --- what cannot be calibrated ---------------------------------------------------------------

GOOD = """
    import jax.numpy as jnp, numpyro
    import numpyro.distributions as dist
    from numpyro import handlers

    class NoDraws(dist.Normal):
        def sample(self, key, sample_shape=()):
            raise NotImplementedError("there is no sampler")

    def model():
        x = numpyro.sample("x", dist.Normal(0.0, 1.0))
        numpyro.sample("y", dist.Normal(x, 1.0), obs=jnp.array(0.5))
"""
LIKELIHOOD = 'numpyro.sample("y", dist.Normal(x, 1.0), obs=jnp.array(0.5))'
IMPROPER = 'numpyro.sample("x", dist.ImproperUniform(dist.constraints.real, (), ()))'
MVN = ["--fit", "mvn/reverse-kl"]
BAD = {
    "factor": ((LIKELIHOOD, 'numpyro.factor("f", -(x**2))'), MVN, "the factor 'f'"),
    "masked factor": (
        (LIKELIHOOD, 'with handlers.mask(mask=x < 9):\n            numpyro.factor("f", -(x**2))'),
        MVN,
        "the factor 'f'",
    ),
    "no data": ((LIKELIHOOD, "pass"), MVN, "nothing is observed"),
    "scaled": (
        (LIKELIHOOD, f"with handlers.scale(scale=2.0):\n            {LIKELIHOOD}"),
        MVN,
        "site 'y' is scaled",
    ),
    "improper prior": (
        ('numpyro.sample("x", dist.Normal(0.0, 1.0))', IMPROPER),
        MVN,
        "give --around posterior",
    ),
    "no sampler": ((LIKELIHOOD, LIKELIHOOD.replace("dist.Normal", "NoDraws")), MVN, "no sampler"),
    "forward KL": (("", ""), ["--fit", "mvn/forward-kl"], "calibrate mvn/reverse-kl"),
    "a state": (("", ""), ["--fit", "mvn/score-climbing"], "keeps a state"),
    "Laplace": (("", ""), ["--fit", "laplace/reverse-kl"], "calibrate mvn/reverse-kl"),
    "draws": (("", ""), ["--fit", "script.py.csv"], "name a fit as GUIDE/DIVERGENCE"),
    "no such guide": (("", ""), ["--fit", "mvm/reverse-kl"], "did you mean mvn?"),
    "around": (("", ""), [*MVN, "--around", "data"], "prior or posterior"),
    "few": (("", ""), [*MVN, "--simulations", "5"], "20"),
    "no fit": (("", ""), [], "--fit"),
    "reference": (("", ""), [*MVN, "--reference", "nuts"], "leave it out"),
    "judge": (("", ""), [*MVN, "--judge", "z"], "no site or quantity 'z'"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_cannot_be_calibrated_is_refused_in_one_line(name, tmp_path, in_process):
    change, options, expected = BAD[name]
    source = (
        textwrap.dedent(GOOD).replace(*map(str, change)) if change[0] else textwrap.dedent(GOOD)
    )
    (tmp_path / "script.py").write_text(source, encoding="utf-8")
    (tmp_path / "script.py.csv").write_text("x\n1.0\n", encoding="utf-8")
    before = sorted(p.name for p in tmp_path.iterdir())
    status, out, err = in_process("calibrate", "script.py", *options)
    assert (status, out) == (2, "")
    assert expected in err.splitlines()[-1]
    assert sum(line.startswith("vi-compare:") for line in err.splitlines()) == 1
    assert sorted(p.name for p in tmp_path.iterdir()) == before


def test_an_improper_prior_is_no_matter_around_the_posterior(tmp_path, in_process):
    source = textwrap.dedent(GOOD).replace(*BAD["improper prior"][0])
    (tmp_path / "script.py").write_text(source, encoding="utf-8")
    options = [*MVN, "--around", "posterior", "--reference", "none", "--simulations", "40"]
    status, out, _ = in_process("calibrate", "script.py", *options)
    assert status == 0
    assert "mvn/reverse-kl: No miscalibration seen" in out
    folder = tmp_path / "reports" / "script"
    names = {"calibration.html", "calibration.json", "calibration.npz"}
    assert {path.name for path in folder.iterdir()} == names
    found = json.loads((folder / "calibration.json").read_text(encoding="utf-8"))
    assert found["values_from"] == "fit"


# --- words and page --------------------------------------------------------------------------


def synthetic(*, failed=0, lost=0, n=100, label="x", doubts=()):
    """calibration.json of a study that was never run, and its ranks."""
    from vi_compare.calibration.facts import results

    rng = np.random.default_rng(6)
    ps = np.stack([ranks_of(2 * rng.normal(size=n), rng), rng.uniform(size=n)], axis=1)
    ps[:failed] = np.nan
    broken = np.arange(n) < failed
    ranks = Ranks("", np.zeros(0), ps, ~broken & (np.arange(n) >= failed + lost), broken)
    facts = results(ranks, {label: "x", "log p": ""}, (), "mvn/reverse-kl", np.inf)
    more = {"around": "prior", "values_from": "prior", "draws": 1999, "doubts": list(doubts)}
    more |= {"observed_fit": {"status": "not converged" if doubts else "converged"}}
    made = {"environment": {"seed": 0, "command": "vi-compare calibrate x.py"}}
    return {"target": {"name": "synthetic"}, **more, **facts, **made}, ranks


def test_refits_that_fail_or_have_not_arrived_are_said():
    found, _ = synthetic(failed=3, lost=4)
    assert words.verdict(found) == ("Miscalibrated", "bad")
    told = words.sentences(found)
    assert told[0].startswith("3 of 100 refits failed")
    assert told[1].startswith("4 of 100 refits had not arrived")
    assert words.verdict(synthetic(failed=6)[0]) == ("Cannot tell", "near")
    assert words.verdict(synthetic(failed=95)[0]) == ("Cannot tell", "near")
    doubtful, _ = synthetic(doubts=["chains disagree"])
    assert words.verdict(doubtful) == ("Cannot tell", "near")
    assert "chains disagree" in words.sentences(doubtful)[0]
    assert "has not converged" in words.sentences(doubtful)[1]


def test_the_page_holds_the_finding_and_escapes_names():
    name = "<script>alert(1)</script>"
    found, ranks = synthetic(label=name)
    page = render(found, {name: ranks.ps[:, 0], "log p": ranks.ps[:, 1]})
    assert "<script" not in page
    assert "Miscalibrated" in page
    assert page.count("<svg") == 2
    assert "0.50" in page or "too sure" in page


def test_margins_that_are_not_judged_are_left_out():
    from vi_compare.calibration.facts import results

    _, ranks = synthetic()
    found = results(ranks, {"x[0]": "x", "log p": ""}, ("x",), "mvn/reverse-kl", np.inf)
    assert list(misfits(found)) == ["x[0]"]


def test_files_are_written_together(tmp_path):
    found, ranks = synthetic()
    page = write(tmp_path / "new", found, ranks)
    assert json.loads((page.parent / "calibration.json").read_text("utf-8")) == found


# --- studies of minutes ------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("around", ["prior", "posterior"])
def test_an_exact_guide_is_not_accused(around, tmp_path):
    """conjugate_regression with `mvn`, which holds the posterior: 20 seeds of 200 data sets."""
    study = replace(scripts.load(ROOT / "models" / "conjugate_regression.py"), published=())
    study = replace(study, fits=["mvn/reverse-kl"])
    counts = []
    for seed in range(20):
        found, _ = calibrated(study, tmp_path / str(seed), around=around, n=200, seed=seed)
        counts.append(sum(map(bool, misfits(found).values())))
        assert found["not_converged"] == found["failed"] == 0
    print(f"{around}: accused in {sum(map(bool, counts))} of 20 seeds, margins {counts}")
    # At 1 % a seed, more than 1 of 20 come by chance in 1.7 % of such studies.
    assert sum(map(bool, counts)) <= 1


def test_margins_are_called_as_everywhere_else(tmp_path):
    """By the coords of the study."""

    def two(y):
        with numpyro.plate("side", 2):
            theta = numpyro.sample("theta", dist.Normal(0.0, 2.0))
        numpyro.sample("y", dist.Normal(theta, 1.0), obs=y)

    coords = {"side": ["left", "right"]}
    study = Study(two, data={"y": Y[:2]}, fits=["mvn/reverse-kl"], coords=coords)
    found, _ = calibrated(study, tmp_path, n=20)
    assert {one["label"] for one in found["margins"]} == {"theta[left]", "theta[right]", "log p"}


def test_data_that_one_distribution_stands_for_are_all_drawn():
    """Outside of a plate a model may write one distribution for many observations."""

    def plain(y):
        theta = numpyro.sample("theta", dist.Normal(0.0, 2.0))
        numpyro.sample("y", dist.Normal(theta, 1.0), obs=y)

    target = Target(plain, (), {"y": Y})
    assert simulated(target, jax.random.key(0)).data["y"].shape == Y.shape


def test_judged_margins_are_those_of_their_site(tmp_path):
    """Also where a name itself has a bracket."""

    def bracket(y):
        theta = numpyro.sample("theta[0]", dist.Normal(0.0, 2.0))
        numpyro.sample("other", dist.Normal(0.0, 1.0))
        numpyro.sample("y", dist.Normal(theta, 1.0).expand([4]), obs=y)

    study = Study(bracket, data={"y": Y}, fits=["mvn/reverse-kl"], judge=["theta[0]"])
    found, _ = calibrated(study, tmp_path, n=20)
    assert [one["label"] for one in found["margins"]] == ["theta[0]"]
