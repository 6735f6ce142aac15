"""Which fit to use for what: what is advised follows from the numbers, and only from them."""

from __future__ import annotations

import pytest
from test_report import HOSTILE, synthetic

from vi_compare.report import render
from vi_compare.report.advice import USES, advice
from vi_compare.report.view import View
from vi_compare.verdict import Concern

GOOD = {
    "coverage": 0.9,
    "missed_mass": 0.01,
    "invented_mass": 0.01,
    "khat": 0.3,
    "reverse_kl": 0.02,
    "forward_kl": 0.02,
}


def with_metrics(*fits, error=0.001):
    """Two fits with these metrics changed, and a total variation."""
    comparison = synthetic()
    for fit, values in zip(comparison.fits, fits, strict=True):
        known = fit["metrics"]
        known["total_variation"] = known["khat"] | {"value": 0.05, "standard_error": error}
        for name, value in values.items():
            known[name] = known[name] | {"value": value, "standard_error": error}
    return comparison


def advised(comparison) -> dict:
    return {one.use: one for one in advice(View.of(comparison))}


def names(one) -> list[str]:
    return [fit.name for fit in one.fits]


def test_the_fit_that_is_good_is_named_and_the_other_is_not():
    found = advised(with_metrics(GOOD, {}))
    for use in ("For intervals", "For importance sampling", "To describe one mode"):
        assert names(found[use]) == ["mvn/reverse-kl"], use
        assert found[use].mark == "good"
    assert "90.00 ± 0.10 %" in found["For intervals"].why
    assert "k̂ = 0.300" in found["For importance sampling"].why


def test_fits_within_error_are_named_together():
    found = advised(with_metrics(GOOD, GOOD | {"coverage": 0.901}, error=0.01))
    assert len(names(found["For intervals"])) == 2
    assert "not told apart" in found["For intervals"].why


def test_good_weights_do_not_make_up_for_what_a_fit_never_visits():
    comparison = with_metrics(GOOD | {"missed_mass": 0.3}, GOOD | {"khat": 0.6})
    assert names(advised(comparison)["For importance sampling"]) == ["published one"]
    comparison = with_metrics(GOOD | {"missed_mass": 0.3}, GOOD | {"missed_mass": 0.4})
    one = advised(comparison)["For importance sampling"]
    assert names(one) == []
    assert one.mark == "bad"
    assert "30.00 ± 0.10 % of the target lies where it has almost nothing" in one.why


@pytest.mark.parametrize(
    ("use", "metric", "value"),
    [
        ("For intervals", "coverage", 0.7),
        ("For probabilities", "total_variation", 0.6),
        ("For importance sampling", "khat", 0.9),
        ("To describe one mode", "invented_mass", 0.3),
    ],
)
def test_where_no_fit_will_do_it_says_so_and_what_to_do(use, metric, value):
    one = advised(with_metrics(GOOD | {metric: value}, GOOD | {metric: value}))[use]
    assert names(one) == []
    assert one.mark == "bad"
    assert one.why.startswith("the nearest is")
    assert next(u.otherwise for u in USES if u.words == use) in one.why


def with_weights(*fits):
    """Two good fits with these (k̂ or None for equal weights, share of the draws)."""
    comparison = with_metrics(GOOD, GOOD)
    for fit, (khat, worth) in zip(comparison.fits, fits, strict=True):
        known = fit["metrics"]
        known["ess"] = known["khat"] | {"value": worth, "standard_error": 1e-4}
        known["khat"] |= {"value": khat, "reason": "" if khat else "no tail"}
    return comparison


@pytest.mark.parametrize(
    ("fits", "chosen"),
    [
        # A uniform proposal has no tail; a perfect one has no k̂ at all.
        ([(-1.6, 0.29), (None, 1.0)], ["published one"]),
        ([(-1.6, 0.17), (-1.5, 0.9995)], ["published one"]),
        # The tail of weights that are all but equal is no matter.
        ([(0.9, 0.999), (0.2, 0.6)], ["mvn/reverse-kl"]),
        # Below that it is.
        ([(0.9, 0.97), (0.2, 0.6)], ["published one"]),
        ([(0.9, 0.97), (0.8, 0.6)], []),
        ([(0.1, 0.6), (0.2, 0.6001)], ["mvn/reverse-kl", "published one"]),
    ],
)
def test_a_proposal_is_chosen_by_what_its_draws_are_worth(fits, chosen):
    assert sorted(names(advised(with_weights(*fits))["For importance sampling"])) == chosen


def test_several_fits_are_spoken_of_as_several():
    one = advised(with_metrics(GOOD, GOOD))["For intervals"]
    assert len(names(one)) == 2
    assert one.why.startswith("their 90 % intervals")


def test_what_is_far_off_is_not_said_as_a_recommendation():
    bad = GOOD | {"total_variation": 0.6}
    why = advised(with_metrics(bad, bad))["For probabilities"].why
    assert "can be off by 60" in why
    assert "no probability" not in why


@pytest.mark.parametrize(("modes", "chosen"), [(1, "published one"), (3, "mvn/reverse-kl")])
def test_of_a_single_mode_a_sliver_is_no_description(modes, chosen):
    """A mean field whose sds are 0.005 of the truth invents nothing, and misses everything."""
    comparison = with_metrics(
        GOOD | {"missed_mass": 0.99, "reverse_kl": 0.01}, GOOD | {"reverse_kl": 0.5}
    )
    found = comparison.results["target"]["modes"]["found"]
    comparison.results["target"]["modes"]["found"] = (found * modes)[:modes]
    assert names(advised(comparison)["To describe one mode"]) == [chosen]


def test_a_failed_fit_is_never_advised():
    comparison = with_metrics(GOOD, GOOD)
    comparison.fits[0]["status"] = "failed"
    for one in advised(comparison).values():
        assert "mvn/reverse-kl" not in names(one)


def test_nothing_is_advised_without_a_reference_and_nothing_ticked_on_a_doubtful_one():
    comparison = with_metrics(GOOD, GOOD)
    comparison.results["target"]["reference"]["doubts"] = [
        {"kind": "its chains disagree", "words": "R-hat is 1.2"}
    ]
    assert {one.mark for one in advised(comparison).values()} == {""}
    page = render(comparison)
    assert page.index("The reference is in doubt") < page.index("should the reference be right")
    comparison.results["target"]["reference"] = {"source": "none", "draws": 0}
    assert advised(comparison) == {}
    assert "Which fit to use" not in render(comparison)


def test_nothing_rests_on_a_reference_that_a_bound_refutes():
    comparison = with_metrics(GOOD, GOOD)
    doubt = {"kind": str(Concern.REFUTED), "words": "the ELBO is above log Z"}
    comparison.results["target"]["reference"]["doubts"] = [doubt]
    assert advised(comparison) == {}


def test_what_was_not_measured_is_not_advised_on():
    comparison = with_metrics(GOOD, GOOD)
    for fit in comparison.fits:
        fit["metrics"]["total_variation"] |= {"value": None, "reason": "log Z is not known"}
    assert "For probabilities" not in advised(comparison)


def test_the_page_opens_with_it_and_escapes_names():
    name = HOSTILE
    comparison = synthetic(names=(name, "b"))
    for fit in comparison.fits:
        for metric, value in GOOD.items():
            fit["metrics"][metric] |= {"value": value, "standard_error": 0.001}
    page = render(comparison)
    assert page.index("Which fit to use") < page.index('class="cards"')
    assert "<script>alert" not in page
