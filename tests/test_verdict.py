"""Verdicts: each rule on either side of its threshold, and what comes first."""

from __future__ import annotations

from functools import partial
from itertools import combinations

import numpy as np
import pytest

from vi_compare import verdict
from vi_compare.evidence import ALL, About, Estimate, MetricKind
from vi_compare.metrics import abouts
from vi_compare.psis import khat_limit
from vi_compare.verdict import RULES, Concern, Doubt, Rule

N = 20_000
ABOUTS = abouts()
judge = partial(verdict.judge, abouts=ABOUTS)


def number(value, error=0.001, **more):
    return Estimate(value, error, "1", N, **more)


def faithful(**changed):
    """Scores of a fit that nothing is held against, with some replaced."""
    plain = {
        "missed_mass": 0.01, "invented_mass": 0.01, "mode_coverage": 1.0, "mode_distance": 0.01,
        "width_ratio": 1.0, "mean_shift": 0.0, "correlation": 0.0, "tail_mass": 1.0, "khat": 0.2,
        "forward_kl": 0.001, "reverse_kl": 0.001,
    }  # fmt: skip
    scores = {name: {ALL: number(value)} for name, value in plain.items()}
    return scores | {k: v if isinstance(v, dict) else {ALL: v} for k, v in changed.items()}


CLEAR = {
    # word: (metric, clearly past, clearly inside)
    "Misses modes": ("mode_coverage", 0.02, 0.5),
    "Wrong mode weights": ("mode_distance", 0.2, 0.05),
    "Too sure": ("width_ratio", 0.7, 0.95),
    "Too diffuse": ("width_ratio", 1.5, 1.05),
    "Shifted": ("mean_shift", -0.4, -0.1),
    "Loses dependence": ("correlation", -0.5, 0.1),
    "Light tails": ("tail_mass", 0.2, 0.8),
    "Heavy tails": ("tail_mass", 3.0, 1.5),
    "Misses mass": ("missed_mass", 0.2, 0.03),
    "Invents mass": ("invented_mass", 0.2, 0.03),
}


def test_every_rule_has_a_row_here():
    assert [rule.word for rule in RULES] == list(CLEAR)


@pytest.mark.parametrize("word", CLEAR)
def test_a_word_appears_past_its_threshold_and_not_inside(word):
    metric, past, inside = CLEAR[word]
    found = judge("converged", "", faithful(**{metric: number(past)}))
    assert found.word == word
    assert found.also == ()
    assert len(found.reasons) == 1
    assert found.use_for
    assert found.next_step
    assert judge("converged", "", faithful(**{metric: number(inside)})).word == "Faithful"


@pytest.mark.parametrize("word", CLEAR)
def test_a_crossing_within_error_is_between(word):
    metric, past, _ = CLEAR[word]
    threshold = next(r.limit(ABOUTS[r.metric]) for r in RULES if r.word == word)
    wide = number(past, error=abs(abs(past) - threshold))  # one standard error past
    found = judge("converged", "", faithful(**{metric: wide}))
    assert found.word == f"between Faithful and {word}"
    assert "within error" in found.reasons[0]


def test_what_is_near_a_threshold_is_named_once_beside_what_is_clear():
    near = number(0.25, 0.08)
    found = judge("converged", "", faithful(width_ratio=number(0.5), mean_shift=near))
    assert (found.word, found.also) == ("Too sure", ())
    assert len(found.reasons) == 2
    assert found.reasons[1] == "Within error of the threshold: Shifted."


@pytest.mark.parametrize(("one", "other"), list(combinations(CLEAR, 2)))
def test_what_any_word_spoils_is_not_recommended(one, other):
    if CLEAR[one][0] == CLEAR[other][0]:
        return  # a width is not both too large and too small
    scores = {CLEAR[word][0]: number(CLEAR[word][1]) for word in (one, other)}
    found = judge("converged", "", faithful(**scores))
    assert {found.word, *found.also} == {one, other}
    for rule in RULES:
        if rule.word in (one, other):
            assert not any(purpose in found.use_for for purpose in rule.spoils), rule.word
            assert found.next_step


@pytest.mark.parametrize(
    ("scores", "use_for"),
    [
        # one Gaussian over forty modes
        (
            {"mode_distance": 0.5, "invented_mass": 0.85},
            "a proposal for importance sampling if k̂ allows it",
        ),
        # a Laplace fit beside a skewed posterior
        ({"width_ratio": 0.6, "mean_shift": 1.25}, "rough location"),
        # one mode of thousands
        (
            {"mode_coverage": 0.0, "mode_distance": 0.9, "width_ratio": 0.2},
            "describing the modes it has",
        ),
        ({"width_ratio": 1.5, "correlation": 0.5}, "cautious intervals, point estimates and a "
         "proposal for importance sampling if k̂ allows it"),
        ({"mean_shift": 0.5, "tail_mass": 0.1}, "rough location"),
        ({"width_ratio": 0.5, "invented_mass": 0.5, "mean_shift": 2.0, "tail_mass": 0.0,
          "mode_distance": 0.5}, "nothing as it is"),
    ],
)  # fmt: skip
def test_the_use_is_what_all_words_leave(scores, use_for):
    found = judge("converged", "", faithful(**{k: number(v) for k, v in scores.items()}))
    assert found.use_for == use_for


def test_a_fit_that_is_right_margin_by_margin_is_not_called_right_as_a_whole():
    """Half a nat in sixty dimensions: no margin shows it, and 39 % of draws would differ."""
    found = judge("converged", "", faithful(total_variation=number(0.387)))
    assert found.word == "Faithful"
    assert "margins and pairs" in found.use_for
    assert "reweight" in found.next_step
    found = judge("converged", "", faithful(total_variation=number(0.05)))
    assert found.next_step == "nothing needs doing"


@pytest.mark.parametrize(
    ("left", "kl", "word"),
    [
        (0.03, 70.0, "Too sure"),  # going on would not help
        (0.03, 0.1, "Not converged"),  # it might
        (None, 70.0, "Not converged"),  # nobody knows
        (20.0, 70.0, "Not converged"),
    ],
)
def test_what_is_left_to_gain_is_the_headline_where_it_matters(left, kl, word):
    scores = faithful(
        width_ratio=number(0.3), forward_kl=number(2 * kl, 0.01), reverse_kl=number(kl, 0.01)
    )
    known = None if left is None else Estimate(left, 0.001, "nats")
    found = judge("not converged", "nats are left to gain", scores, left=known)
    assert found.word == word
    assert {"Too sure", "Not converged"} <= {found.word, *found.also}
    assert any("left to gain" in reason for reason in found.reasons)


def test_a_fit_that_seems_faithful_and_has_not_converged_is_not_called_faithful():
    scores = faithful(forward_kl=number(1.0), reverse_kl=number(1.0))
    known = Estimate(0.03, 0.001, "nats")
    assert judge("not converged", "", scores, left=known).word == "Not converged"


def test_faithful_gives_its_numbers():
    found = judge("converged", "", faithful())
    assert found.word == "Faithful"
    assert "orward KL" in found.reasons[0]


@pytest.mark.parametrize(
    ("n", "told"),
    [
        (20_000, []),
        (7_500, ["Too few draws to settle Light tails and Heavy tails: 7 500, where 10 000"]),
        (300, ["Too few draws to judge Light tails and Heavy tails: 300, where 400"]),
    ],
)
def test_what_the_draws_are_too_few_for_is_said(n, told):
    found = judge("converged", "", faithful(tail_mass=Estimate(0.9, 0.3, "1", n)))
    assert found.word == "Faithful"
    said = [" ".join(reason.split()) for reason in found.reasons if "Too few" in reason]
    assert len(said) == len(told)
    for sentence, begin in zip(said, told, strict=True):
        assert sentence.startswith(begin)


def test_draws_are_never_too_few_for_what_cannot_be_otherwise():
    """One mode holds all of the target and of the fit, however few the draws; and what is
    clearly beyond its threshold has been settled."""
    one = {"mode_coverage": Estimate(1.0, 0.0, "1", 300), "mode_distance": Estimate(0.0, 0, "1", 3)}
    assert "Too few" not in " ".join(judge("converged", "", faithful(**one)).reasons)
    empty = judge("converged", "", faithful(tail_mass=Estimate(0.0, 0.05, "1", 7_500)))
    assert (empty.word, len(empty.reasons)) == ("Light tails", 2)
    assert "settle Heavy tails" in empty.reasons[1]


MARGINS = 20


def widths(values, error=0.02):
    by = {f"x[{i}]": number(value, error) for i, value in enumerate(values)}
    return {"width_ratio": by | {ALL: number(min(values), error)}}


def test_what_would_have_been_named_is_said_of_a_faithful_fit():
    found = judge("converged", "", faithful(**widths([1.0] * MARGINS)))
    assert found.word == "Faithful"
    # 3.02 standard errors are the worst of 20 at 5 %, two-sided; 1.64 more are 95 % power.
    least = 0.9 - (3.02 + 1.64) * 0.02
    assert (
        f"Would be named in 95 of 100 cases: 90 % intervals {least:.2f} times" in found.reasons[1]
    )


def test_a_fault_of_the_size_that_would_be_named_is_named_in_95_of_100_cases():
    """One of 20 margins is off by just that. Of 2,000 fits 95 % are named, within four standard
    errors of that share, 0.5 %: once in 16,000."""
    rng = np.random.default_rng(0)
    least = 0.9 - (3.0233 + 1.6449) * 0.02
    true = np.append(np.ones(MARGINS - 1), least)
    named = [
        judge("converged", "", faithful(**widths(true + 0.02 * rng.standard_normal(MARGINS)))).word
        == "Too sure"
        for _ in range(2000)
    ]
    assert abs(np.mean(named) - 0.95) < 4 * np.sqrt(0.95 * 0.05 / 2000)


def test_without_a_reference_nothing_is_said_to_be_named():
    scores = {"elbo": {ALL: number(-1.0)}, "khat": {ALL: number(0.1)}}
    assert "named" not in " ".join(judge("converged", "", scores).reasons)


def test_without_a_reference_it_is_unverified():
    scores = {"elbo": {ALL: number(-1.0)}, "khat": {ALL: number(0.1)}}
    scores["missed_mass"] = {ALL: Estimate.missing("no draws")}
    found = judge("converged", "", scores)
    assert found.word == "Unverified"
    assert not found.reweightable


def test_no_verdict_is_stronger_than_the_reference_that_it_rests_on():
    doubt = Doubt(Concern.CHAINS_DISAGREE, "its chains disagree: R-hat 1.2, above 1.01")
    found = judge("converged", "", faithful(), (doubt,))
    assert (found.word, found.also) == ("Unverified", ())
    assert doubt.words in found.reasons[0]
    assert not found.reweightable
    found = judge("converged", "", faithful(width_ratio=number(0.5)), (doubt,))
    assert (found.word, found.also) == ("Unverified", ("Too sure",))
    assert "too narrow" in " ".join(found.reasons)
    assert judge("failed", "site 'x' is NaN", {}, (doubt,)).word == "Failed"


def test_the_worst_of_many_that_are_not_listed_has_a_wider_error_to_beat():
    """0.2 ± 0.02 is 2.5 errors past 0.15: clear for one pair, not for the worst of 435."""
    one, many = (Estimate(0.2, 0.02, "1", N, worst_of=pairs) for pairs in (1, 435))
    assert judge("converged", "", faithful(correlation=one)).word == "Loses dependence"
    found = judge("converged", "", faithful(correlation=many))
    assert found.word == "between Faithful and Loses dependence"


def test_failed_and_not_converged_come_first():
    bad = faithful(mode_coverage=number(0.0), width_ratio=number(0.5))
    assert judge("failed", "site 'x' is NaN", {}).word == "Failed"
    assert "site 'x' is NaN" in judge("failed", "site 'x' is NaN", {}).reasons[0]
    found = judge("not converged", "the loss still falls", bad, remedy="raise svi:steps=80000")
    assert found.word == "Not converged"
    assert found.also == ("Misses modes", "Too sure")
    assert found.next_step == "raise svi:steps=80000"


def test_the_first_of_the_table_is_the_headline_and_all_are_listed():
    scores = faithful(
        missed_mass=number(0.5), tail_mass=number(5.0), mean_shift=number(0.5),
        mode_coverage=number(0.0),
    )  # fmt: skip
    found = judge("converged", "", scores)
    assert found.word == "Misses modes"
    assert found.also[:2] == ("Shifted", "Heavy tails")
    assert len(found.reasons) == 1 + len(found.also)


def test_dropped_modes_are_counted_and_the_worst_is_named():
    by = {f"mode {i}": number(0.0 if i > 2 else 1.0) for i in range(1, 41)}
    found = judge("converged", "", faithful(mode_coverage={ALL: number(0.0), **by}))
    assert "drops 38 of 40 modes: mode 3 has" in found.reasons[0]


def test_the_worst_margin_counts_and_is_named():
    by = {f"beta[{i}]": number(1.0, 0.01) for i in range(20)} | {"tau": number(0.5, 0.01)}
    found = judge("converged", "", faithful(width_ratio={ALL: number(0.5, 0.01), **by}))
    assert found.word == "Too sure"
    assert "tau" in found.reasons[0]


def test_many_margins_widen_the_error_to_beat():
    """2.5 standard errors past the threshold are clear for one margin, not for the worst of 50."""
    past = number(0.9 - 2.5 * 0.01, 0.01)
    one = judge("converged", "", faithful(width_ratio=past))
    by = {f"b[{i}]": number(1.0, 0.01) for i in range(49)} | {"b[49]": past}
    many = judge("converged", "", faithful(width_ratio={ALL: past, **by}))
    assert one.word == "Too sure"
    assert many.word == "between Faithful and Too sure"


def test_what_chance_gives_the_worst_of_many_is_not_mentioned():
    """0.48 ± 0.14 of a tail's mass is 3.7 errors from perfect. For one tail that is no chance;
    a hundred perfect ones hold such a one every fiftieth time."""
    worst = number(0.48, 0.14)
    assert (
        judge("converged", "", faithful(tail_mass=worst)).word == "between Faithful and Light tails"
    )
    by = {f"tail {i}": number(1.0, 0.14) for i in range(99)} | {"tail 99": worst}
    assert judge("converged", "", faithful(tail_mass={ALL: worst, **by})).word == "Faithful"
    # With errors as wide as the way to the threshold nobody can say Faithful.
    unsure = {k: number(e.value, 0.3) for k, e in by.items()}
    found = judge("converged", "", faithful(tail_mass={ALL: worst, **unsure}))
    assert found.word == "between Faithful and Light tails"


def test_a_clear_margin_counts_before_a_worse_one_that_is_uncertain():
    by = {"noisy": number(0.3, 0.5), "plain": number(0.8, 0.01)}
    found = judge("converged", "", faithful(width_ratio={ALL: by["noisy"], **by}))
    assert found.word == "Too sure"
    assert "plain" in found.reasons[0]


def test_mode_weights_within_their_floor_are_not_wrong():
    within = number(0.2, 0.001, floor=0.25)
    assert judge("converged", "", faithful(mode_distance=within)).word == "Faithful"


def test_few_draws_decide_nothing():
    few = Estimate(0.5, 0.001, "1", RULES[0].least_draws - 1)
    assert judge("converged", "", faithful(width_ratio=few)).word == "Faithful"


def test_a_tail_of_few_draws_counts_only_when_it_is_clear():
    """Ten draws of 2,000 lie in a tail of 0.5 %."""
    few = lambda value: Estimate(value, 0.4, "1", 2_000)
    assert judge("converged", "", faithful(tail_mass=few(2.4))).word == "Faithful"
    assert judge("converged", "", faithful(tail_mass=few(4.0))).word == "Heavy tails"


def test_reweighting_is_a_badge_beside_the_word():
    sure = judge("converged", "", faithful(width_ratio=number(0.8)))
    assert sure.word == "Too sure"
    assert sure.reweightable
    assert not judge("converged", "", faithful(khat=number(0.9))).reweightable
    dropped = faithful(mode_coverage=number(0.0))
    assert not judge("converged", "", dropped).reweightable


def test_the_limit_of_khat():
    assert khat_limit(20_000) == pytest.approx(0.7)
    assert khat_limit(1000) == pytest.approx(2 / 3)
    assert khat_limit(5) == 0.0


def test_the_limits_of_the_marks_are_the_thresholds_where_a_rule_names_none():
    """One fact stands once: where the mark of a metric turns to ✗."""
    unnamed = [rule for rule in RULES if rule.threshold is None]
    told = {rule.word: rule.condition(ABOUTS[rule.metric]) for rule in unnamed}
    assert told == {
        "Misses modes": "mode_coverage < 0.1",
        "Loses dependence": "correlation > 0.15",
        "Light tails": "tail_mass < 0.5",
        "Heavy tails": "tail_mass > 2",
        "Misses mass": "missed_mass > 0.05",
        "Invents mass": "invented_mass > 0.05",
    }


def test_a_rule_follows_what_its_metric_says_not_how_it_is_called():
    """A signed number counts by how far it is from perfect, a floored one above its floor alone."""
    signed = About(name="level", meaning="", kind=MetricKind.SIGNED, perfect=0.9)
    floored = About(name="gap", meaning="", kind=MetricKind.SMALLER, perfect=0.0, above_floor=True)
    rules = tuple(Rule(name, name, 1, 0.2, "{value}", "", "") for name in ("level", "gap"))
    judged = lambda level, gap: verdict.judge(
        "converged", "", faithful(level=level, gap=gap), rules=rules,
        abouts=ABOUTS | {"level": signed, "gap": floored},
    )  # fmt: skip
    assert judged(number(1.05), number(0.1)).word == "Faithful"
    assert judged(number(0.6), number(0.5, floor=0.6)).word == "level"
    assert judged(number(1.2), number(0.5, floor=0.4)).also == ("gap",)


@pytest.mark.parametrize(
    ("kinds", "word"),
    [
        ([Concern.STILL_MOVING], "Cannot tell yet"),
        ([Concern.STILL_MOVING, Concern.FEW_DRAWS], "Cannot tell yet"),
        ([Concern.STILL_MOVING, Concern.MISSED_MODE], "Unverified"),
        ([Concern.STILL_MOVING, Concern.STEIN], "Unverified"),
        ([Concern.FEW_DRAWS], "Unverified"),
    ],
)
def test_chains_that_still_move_cannot_tell_yet_unless_more_is_wrong(kinds, word):
    """More of the same draws mend neither a missed mode nor draws of another density."""
    doubts = tuple(Doubt(kind, "its chains have not settled") for kind in kinds)
    assert judge("converged", "", faithful(), doubts).word == word
