"""The ladder: guides of growing reach, up to the first that can be trusted."""

from __future__ import annotations

from importlib import util

import jax.numpy as jnp
import numpyro
import numpyro.distributions as dist
import pytest
from targets import plane, script

from vi_compare import Comparison, Settings, Study
from vi_compare.report import render
from vi_compare.report.climb import where_it_ended
from vi_compare.report.view import View
from vi_compare.run.ladder import Ladder
from vi_compare.target import Target

FEW = Settings(draws=2000, restarts=2)


def names(comparison: Comparison) -> list[str]:
    return [fit["name"] for fit in comparison.fits]


@pytest.fixture(scope="module")
def correlated() -> Comparison:
    """A normal with a correlation: mean field is too sure, and the next rung is exact."""
    return Study(plane, name="plane").run(FEW)


def test_it_ends_at_the_first_rung_that_passes(correlated):
    found = correlated.results["ladder"]
    assert found["found"] == "mvn/reverse-kl"
    assert found["rungs"] == ["normal/reverse-kl", "mvn/reverse-kl"]
    assert found["not_tried"] == ["mixture:auto/reverse-kl", "coupling/reverse-kl"]
    words = {fit["name"]: fit["verdict"]["word"] for fit in correlated.fits}
    assert words["normal/reverse-kl"] != "Faithful"
    assert words["mvn/reverse-kl"] == "Faithful"


def test_the_last_two_rungs_have_twins_by_forward_kl(correlated):
    twins = ["normal/forward-kl", "mvn/forward-kl"]
    assert names(correlated) == ["normal/reverse-kl", "mvn/reverse-kl", *twins]


def test_no_twin_is_made_where_there_are_no_draws_of_the_target():
    alone = Study(plane).run(Settings(draws=2000, restarts=2, reference="none"))
    assert all(name.endswith("/reverse-kl") for name in names(alone))
    # Nothing is Faithful that no draws of the target stand against, so that all were tried.
    assert alone.results["ladder"]["not_tried"] == [] or alone.results["ladder"]["found"]


def test_the_page_shows_what_each_rung_bought(correlated, tmp_path):
    page = render(correlated)
    assert 'id="ladder"' in page
    ended = where_it_ended(View.of(correlated))
    assert ended.startswith("The cheapest approximation that passes is mvn/reverse-kl;")
    assert ended in page.replace("&#39;", "'")
    named = Study(plane, fits="mvn/reverse-kl").run(FEW)
    assert 'id="ladder"' not in render(named)
    assert where_it_ended(View.of(named)) == ""


def test_other_fits_stand_beside_it():
    beside = Study(plane, fits=["auto", "lowrank:1/reverse-kl"]).run(FEW)
    assert beside.results["ladder"]["found"] == "mvn/reverse-kl"
    assert names(beside)[-1] == "lowrank:1/reverse-kl"


def test_a_script_s_own_guide_stands_beside_it():
    def mine():
        loc = numpyro.param("loc", jnp.zeros(2))
        numpyro.sample("z", dist.Normal(loc, 1.0).to_event(1))

    beside = Study(plane, guides={"mine": mine}).run(FEW)
    assert "mine/reverse-kl" in names(beside)
    assert "mine/reverse-kl" not in beside.results["ladder"]["rungs"]


def pair():
    """The plane of one site that mean field gets right, and two that it does not."""
    numpyro.sample("own", dist.Normal(3.0, 2.0))
    covariance = jnp.array([[1.0, 0.95], [0.95, 1.0]])
    numpyro.sample("z", dist.MultivariateNormal(jnp.zeros(2), covariance))


def test_it_climbs_for_what_is_judged():
    """Mean field is right for a site that is independent of all others."""
    judged = Study(pair, judge=["own"]).run(FEW)
    assert judged.results["ladder"]["found"] == "normal/reverse-kl"
    assert Study(pair).run(FEW).results["ladder"]["found"] == "mvn/reverse-kl"


def test_peaks_need_a_mixture():
    """In one dimension no flow stands behind it."""
    module = script("three_peaks")
    found = Study(module.model, exact=module.exact).run(FEW).results["ladder"]
    assert found["found"] == "mixture:auto/reverse-kl"
    assert found["left_out"] == {"coupling": "one dimension has nothing to couple"}


def test_a_target_is_told_what_it_cannot_have(monkeypatch):
    quick = Ladder().for_target(Target(plane), True)
    assert not quick.left_out
    assert len(quick.rungs) == 4
    slow = Ladder().for_target(Target(plane), False)
    assert slow.rungs == ("normal/reverse-kl", "mvn/reverse-kl")
    assert slow.left_out["mixture:auto"] == "log p takes long"
    wide = Target(lambda: numpyro.sample("x", dist.Normal(0.0, 1.0).expand([301]).to_event(1)))
    assert Ladder().for_target(wide, True).rungs == ("normal/reverse-kl",)
    real = util.find_spec
    without = lambda name, *more: None if name == "flowjax" else real(name, *more)
    monkeypatch.setattr("vi_compare.run.ladder.find_spec", without)
    bare = Ladder().for_target(Target(plane), True)
    assert "pip install 'vi-compare[flows]'" in bare.left_out["coupling"]


def test_a_run_that_was_saved_is_loaded_with_its_sizes(tmp_path):
    """Parameters of mixture:auto are as many as its components."""
    module = script("three_peaks")
    study = Study(module.model, exact=module.exact, fits=["mixture:auto/reverse-kl"])
    made = study.run(FEW)
    made.save(tmp_path / "run")
    loaded = study.load(tmp_path / "run").fit("mixture:auto/reverse-kl")
    assert loaded.guide.num_components == 3
    before = made.fit("mixture:auto/reverse-kl").log_prob(jnp.zeros((1, 1)))
    assert loaded.log_prob(jnp.zeros((1, 1))) == pytest.approx(before, abs=1e-9)
