"""Chains from a fit's own draws: they leave what is not the target and nothing else, and what a
reference that has not settled says alike is a bound. Oracles: closed forms, and numpy alone."""

from __future__ import annotations

import json
from dataclasses import replace

import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from jsonschema import Draft202012Validator
from targets import ROOT

from vi_compare import Given, Study
from vi_compare.estimate import Estimate
from vi_compare.metrics import abouts
from vi_compare.randomness import key_for
from vi_compare.reference.drift import Drift, Walk, drift
from vi_compare.reference.trail import LEVELS, Trail
from vi_compare.report import render
from vi_compare.report.sections.drift import section
from vi_compare.report.view import View
from vi_compare.run.drifts import agreed, of_drift
from vi_compare.script import load
from vi_compare.settings import Settings
from vi_compare.target import Target
from vi_compare.verdict import Concern, Doubt, Drifts, judge

ABOUTS = abouts()
MOVING = (Doubt(Concern.STILL_MOVING, "its chains have not settled"),)


def silent(*_):
    pass


def correlated():
    """Four coordinates, correlations of 0.8, unit variances."""
    covariance = 0.2 * jnp.eye(4) + 0.8
    numpyro.sample("x", dist.MultivariateNormal(jnp.zeros(4), covariance))


def normal_draws(target, n, scale=1.0, seed=0):
    root = np.linalg.cholesky(0.2 * np.eye(4) + 0.8)
    u = scale * np.random.default_rng(seed).standard_normal((n, 4)) @ root.T
    return target.complete(jnp.asarray(u))


def went(target, q, seed=0, most=30_000):
    return drift(target, q, key_for(seed, "drift"), most, silent)


def named(q, found: Drift, reference=None):
    return of_drift(q, found, reference or {}, ABOUTS)


def test_chains_from_draws_of_the_target_stay_as_they_are():
    """Width and mean of four margins over 12 seeds, 96 |z|; the largest of so many normal numbers
    is above 4.5 once in 1,500. Errors are those of the metrics."""
    target = Target(correlated)
    largest = 0.0
    for seed in range(12):
        q = normal_draws(target, 8000, seed=seed)
        moved = named(q, went(target, q, seed)).moved
        for metric, perfect in (("width_ratio", 1.0), ("mean_shift", 0.0)):
            by = {k: e for k, e in moved[metric].items() if k != "all"}
            assert len(by) == 4
            z = [abs(e.value - perfect) / e.standard_error for e in by.values()]
            largest = max(largest, *z)
    assert largest < 4.5


@pytest.mark.parametrize("scale", [0.4, 2.5])
def test_chains_leave_a_fit_whose_widths_are_wrong_for_the_target(scale):
    """A fit that is the target, scaled: in closed form its intervals are `scale` times as long,
    and chains that have mixed say so within their errors (4.5 of 4 margins: 1 in 30,000)."""
    target = Target(correlated)
    q = normal_draws(target, 8000, scale)
    moved = named(q, went(target, q)).moved["width_ratio"]
    for label, e in moved.items():
        assert abs(e.value - scale) < 4.5 * e.standard_error, label


def test_a_mean_shift_is_seen_in_sds_of_the_target():
    target = Target(correlated)
    q = normal_draws(target, 8000)
    q = target.complete(q.u + 1.5)
    e = named(q, went(target, q)).moved["mean_shift"]["x[2]"]
    assert abs(e.value - 1.5) < 4.5 * e.standard_error


def test_it_costs_what_it_may_and_the_same_seed_goes_the_same_way():
    target = Target(correlated)
    q = normal_draws(target, 2000)
    one, other = went(target, q), went(target, q)
    np.testing.assert_array_equal(one.now.u, other.now.u)
    # The last block is begun before all is spent.
    assert 30_000 <= one.gradients < 45_000
    assert one.chains == one.now.chains <= Walk().chains
    assert one.way.iterations[-1] == one.iterations


@pytest.mark.parametrize(
    ("model", "most"),
    [(correlated, 5_000), (lambda: numpyro.sample("a", dist.VonMises(0.0, 4.0)), 30_000)],
    ids=["too few gradients", "an angle"],
)
def test_no_chains_where_they_would_tell_nothing(model, most):
    target = Target(model)
    u = jnp.asarray(np.random.default_rng(0).normal(size=(500, target.dim)) / 10)
    assert went(target, target.complete(u), most=most) is None


def test_draws_without_a_density_are_no_place_to_begin():
    """Nothing else may be lost with them: chains begin at the others."""
    target = Target(correlated)
    q = normal_draws(target, 1000)
    bad = replace(q, log_p=jnp.where(jnp.arange(1000) < 700, -jnp.inf, q.log_p))
    assert np.isfinite(np.asarray(went(target, bad).now.log_p)).all()
    assert went(target, replace(q, log_p=jnp.full(1000, -jnp.inf))) is None


# --- trails ---------------------------------------------------------------------------


def test_a_trail_has_the_quantiles_of_every_block():
    rng = np.random.default_rng(0)
    blocks = [{"x": rng.normal(size=1000), "y": rng.normal(size=(1000, 2))} for _ in range(2)]
    found = Trail.of([8, 16], blocks, [np.ones(1000)] * 2, 100)
    assert found.labels == ("x", "y[0]", "y[1]")
    assert found.quantiles.shape == found.errors.shape == (2, 3, len(LEVELS))
    np.testing.assert_allclose(
        found.quantiles[1, 2], np.quantile(blocks[1]["y"][:, 1], LEVELS), atol=0.02
    )
    # A median of 100 normal draws has a standard error of sqrt(π/2)/10; its rank is one of 1,000.
    np.testing.assert_allclose(found.errors[:, :, 1], np.sqrt(np.pi / 2) / 10, rtol=0.25)


def test_weights_count_as_so_many_draws():
    x = np.arange(10.0)
    weighted = Trail.of([0], [{"x": x}], [np.where(x < 5, 3.0, 1.0)], 10)
    repeated = Trail.of([0], [{"x": np.repeat(x, np.where(x < 5, 3, 1))}], [np.ones(20)], 10)
    np.testing.assert_array_equal(weighted.quantiles, repeated.quantiles)


# --- bounds and words -----------------------------------------------------------------


def ratio(value, error=0.01):
    return Estimate(value, error, "1", 20_000, 1.0)


def bound(own, reference, metric="width_ratio"):
    by = lambda e: {metric: {"all": e, "x": e}}
    return agreed(by(own), by(reference), ABOUTS)[metric]["x"]


@pytest.mark.parametrize(
    ("own", "reference", "value", "side"),
    [
        (0.5, 0.7, 0.7, "most"),
        (0.7, 0.5, 0.7, "most"),
        (1.5, 3.0, 1.5, "least"),
        (0.5, 1.6, 1.0, ""),
        (2.0, 0.9, 1.0, ""),
    ],
)
def test_the_smaller_of_two_faults_to_one_side_is_a_bound(own, reference, value, side):
    found = bound(ratio(own), ratio(reference, 0.04))
    assert (found.value, found.bound, found.standard_error) == (value, side, 0.04)


def test_a_shift_to_both_sides_is_none():
    shift = lambda value: Estimate(value, 0.05, "sd", 20_000, 0.0)
    assert bound(shift(0.5), shift(-0.7), "mean_shift").value == 0.0
    found = bound(shift(-0.5), shift(-0.7), "mean_shift")
    assert (found.value, found.bound) == (-0.5, "most")


def test_what_is_known_of_one_side_alone_is_no_bound():
    assert (
        "x"
        not in agreed(
            {"width_ratio": {"all": ratio(0.5), "x": ratio(0.5)}},
            {"width_ratio": {"all": Estimate.missing("no reference")}},
            ABOUTS,
        )["width_ratio"]
    )


def said(moved, least, doubts=MOVING, scores=None):
    by = lambda e: {} if e is None else {"width_ratio": {"all": e, "x": e}}
    found = Drifts(by(moved), by(least), 128, 24)
    return judge("converged", "", scores or {}, doubts, drift=found, abouts=ABOUTS)


def test_a_bound_beyond_the_threshold_is_the_word_while_chains_still_move():
    least = replace(ratio(0.6), bound="most")
    found = said(ratio(0.5), least)
    assert (found.word, found.also) == ("Too sure", ("Cannot tell yet",))
    assert "≤ 0.60" in found.reasons[0]
    assert any("have not settled" in reason for reason in found.reasons)
    assert "intervals of single margins" not in found.use_for


@pytest.mark.parametrize("least", [ratio(1.0), ratio(0.87, 0.02), None])
def test_without_a_clear_bound_nothing_is_named_and_how_far_they_went_is_said(least):
    found = said(ratio(0.5), least)
    assert found.word == "Cannot tell yet"
    assert "2.00 ± 0.04 times as long" in found.reasons[1]
    assert "more than chance" in said(ratio(1.01), least).reasons[1]


def test_a_reference_that_may_miss_a_mode_bounds_nothing():
    doubts = (*MOVING, Doubt(Concern.MISSED_MODE, "it may miss a mode"))
    assert said(ratio(0.5), replace(ratio(0.6), bound="most"), doubts).word == "Unverified"


def test_without_a_reference_what_chains_say_alone_changes_no_word():
    """From a Gaussian with the funnel's own moments chains first go the wrong way, so that alone
    they bound nothing."""
    assert said(ratio(0.5), None, ()).word == "Unverified"


# --- whole runs -----------------------------------------------------------------------


@pytest.fixture(scope="module")
def funnel():
    """A funnel, which short chains never settle in. A forward fit is given with its true moments:
    too wide in every x but for few draws, where chains from it first go wider still."""
    study = load(str(ROOT / "models" / "funnel.py"))
    fits = ["diagonal/reverse-kl", Given("moments", draws=_moments_of_funnel())]
    quick = Settings(reference="chains", draws=4000, effort="quick")
    return replace(study, fits=fits).run(quick)


def _moments_of_funnel():
    """Draws of the Gaussian with the funnel's means and variances: v ~ N(0, 9) has sd 3, and
    x | v ~ N(0, exp v) the variance E[exp v] = exp(4.5)."""
    rng = np.random.default_rng(0)
    return {"v": 3 * rng.standard_normal(4000), "x": np.exp(2.25) * rng.standard_normal((4000, 9))}


def test_a_fault_is_named_before_the_chains_have_settled_and_none_that_is_not_there(funnel):
    """The true fault by exact draws of the funnel, made here: v of the mean field is far too
    narrow. Of its moments' Gaussian no x is too narrow, whatever its chains do."""
    narrow, wide = funnel.results["fits"]
    assert narrow["verdict"]["word"] == "Too sure"
    assert "Cannot tell yet" in narrow["verdict"]["also"]
    v = np.asarray(funnel.draws[narrow["group"]]["posterior"]["v"].values).ravel()
    true = (np.quantile(v, 0.95) - np.quantile(v, 0.05)) / (2 * 1.645 * 3)
    least = narrow["drift"]["least"]["width_ratio"]["by"]["v"]
    assert least["bound"] == "most"
    assert true - 4 * least["standard_error"] < least["value"] < 0.8
    words = [wide["verdict"]["word"], *wide["verdict"]["also"]]
    assert "Too sure" not in words
    assert "Faithful" not in words


def test_results_hold_how_far_the_chains_went_and_fits_nc_the_way(funnel):
    schema = json.loads((ROOT / "vi_compare" / "results.schema.json").read_text())
    Draft202012Validator(schema).validate(funnel.results)
    for fit in funnel.results["fits"]:
        known = fit["drift"]
        way = funnel.draws[fit["group"]]["drift"]
        assert way["iteration"].values[-1] == known["iterations"]
        assert set(way["margin"].values) == set(known["moved"]["width_ratio"]["by"])
    for side in ("inside", "outside"):
        way = funnel.draws["reference"][side]
        assert way["iteration"].values[0] == 0
        assert np.isfinite(way["quantile"].values).all()


def test_the_page_shows_how_far_the_chains_went(funnel):
    view = View.of(funnel)
    found = section(view)
    assert found is not None
    table = next(block for block in found.blocks if block.kind == "table")
    assert [row.fit.key for row in table.rows] == ["diagonal/reverse-kl", "moments"]
    pictures = next(block for block in found.blocks if block.kind == "pictures")
    assert len({picture.caption for picture in pictures.pictures} & set(view.labels)) == 4
    page = render(funnel)
    assert 'id="drift"' in page


@pytest.mark.parametrize("reference", ["exact", "none"])
def test_a_finished_reference_and_one_that_was_declined_ask_no_chains(reference):
    study = Study(correlated, fits=["normal/reverse-kl"], restarts=2)
    found = study.run(Settings(reference=reference, draws=1000))
    assert found.results["fits"][0]["drift"] is None
    assert section(View.of(found)) is None


def test_where_log_p_is_too_dear_for_a_reference_chains_tell_how_far_they_went(monkeypatch):
    """The cost of the model is overstated, so that the test need not pay it. x is N(0.25, 1/2), and
    the fit N(0, 1/16), half as wide: chains from it say so, and it is not named for that."""
    monkeypatch.setattr(Target, "operations", 5e6)
    narrow = Given("narrow", draws={"x": np.random.default_rng(0).normal(0, 0.25, 2000)})
    found = Study(_observed, fits=[narrow]).run(Settings(draws=1000))
    assert found.results["target"]["reference"]["source"] == "none"
    fit = found.results["fits"][0]
    assert fit["verdict"]["word"] == "Unverified"
    moved = fit["drift"]["moved"]["width_ratio"]["by"]["x"]
    assert abs(moved["value"] - 0.25 * np.sqrt(2)) < 4.5 * moved["standard_error"]
    assert "times as long" in " ".join(fit["verdict"]["reasons"])
    assert section(View.of(found)) is not None


def _observed():
    x = numpyro.sample("x", dist.Normal(0.0, 1.0))
    numpyro.sample("y", dist.Normal(x, 1.0), obs=0.5)
