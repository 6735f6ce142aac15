"""`vi-compare diff`: what changed beyond error is found, and nothing else."""

from __future__ import annotations

import copy
import json
import sys
from importlib.resources import files
from statistics import NormalDist

import numpy as np
import pytest
from test_cli import command, refused, snapshot, write

from vi_compare.difference import LEVEL, difference
from vi_compare.errors import InputError
from vi_compare.metrics import abouts

SITES = {"a": [], "beta": [11]}
MARGINS = ["a", *(f"beta[{i}]" for i in range(11))]
ERROR = 0.02
ABOUTS = {name: about.plain() for name, about in abouts().items()}


def estimate(value, error=ERROR, **more):
    return {"value": value, "standard_error": error} | more


def metric(values, error=ERROR, badness=abs, **more):
    """A metric as it is saved: one number, or {label: number} with the worst in front."""
    head = {"unit": "1", "n": 2000} | more
    if not isinstance(values, dict):
        return estimate(values, error, **head)
    worst = max(values, key=lambda label: badness(values[label]))
    floor = {k: v for k, v in more.items() if k == "floor"}
    by = {label: estimate(value, error, **floor) for label, value in values.items()}
    return estimate(values[worst], error, **head, by=by)


def a_fit(name, metrics, word="Faithful"):
    return {
        "name": name, "guide": "mvn", "divergence": "reverse-kl", "solver": "svi",
        "label": f"{name}/svi", "group": "fits/g", "seed": 0, "status": "converged",
        "message": "", "remedy": "", "params": None, "mixture": None, "chosen": 0, "restarts": [],
        "basins": [], "settings": {}, "metrics": metrics,
        "verdict": {
            "word": word, "also": [], "reasons": [], "use_for": "", "next_step": "",
            "usable_after_reweighting": False, "vague": False, "mild": False,
        },
        "cost": {
            "compile_seconds": 1.0, "run_seconds": 1.0,
            "log_density_evaluations": 1000, "gradient_evaluations": 1000,
        },
    }  # fmt: skip


def a_run(fits):
    return {
        "schema": 1,
        "run": "r",
        "target": {
            "name": "plane", "description": "", "dim": 12, "sites": SITES,
            "supports": dict.fromkeys(SITES, "Real()"), "real": dict.fromkeys(SITES, True),
            "normalised": False,
            "log_normalizer": estimate(-3.0, 0.01, method="bridge"),
            "log_normalizer_reason": "",
            "reference": {"source": "nuts", "draws": 2000, "doubts": []},
            "modes": {"found": None, "reason": "not looked for"},
        },
        "fits": fits,
        "published": [],
        "metrics": ABOUTS,
        "rules": [{"word": "Too sure", "when": "width_ratio < 0.9"}],
        "environment": {
            "versions": {"jax": "0.12"}, "device": "cpu", "platform": "cpu",
            "precision": "float64", "threads": 2, "seed": 0, "commit": None, "command": "run",
            "settings": {"draws": 2000, "restarts": 4, "reference": "nuts", "effort": "normal"},
            "created": "now",
        },
    }  # fmt: skip


@pytest.fixture
def pair():
    """Two equal runs: (a, b)."""
    metrics = {
        "forward_kl": metric(0.5, unit="nats"),
        "mean_shift": metric(dict.fromkeys(MARGINS, 0.1)),
        "khat": metric(0.3),
    }
    a = a_run([a_fit(name, copy.deepcopy(metrics)) for name in ("mvn/x", "mixture:2/x")])
    return a, copy.deepcopy(a)


def texts(changes):
    return [(c.fit, c.what, c.before, c.after) for c in changes]


def test_the_runs_made_up_here_fit_the_schema(pair):
    from jsonschema import Draft202012Validator

    schema = json.loads(files("vi_compare").joinpath("results.schema.json").read_text("utf-8"))
    Draft202012Validator(schema).validate(pair[0])


def test_evaluations_that_nobody_counted_are_not_recorded(pair):
    from jsonschema import Draft202012Validator

    a, b = pair
    schema = json.loads(files("vi_compare").joinpath("results.schema.json").read_text("utf-8"))
    nothing = {"compile_seconds": None, "gradient_evaluations": None}
    b["fits"][0]["cost"] |= nothing | {"log_density_evaluations": None}
    Draft202012Validator(schema).validate(b)
    found = [(c.what, c.after) for c in difference(a, b).costs]
    assert ("gradient evaluations", "not recorded") in found
    assert ("log density evaluations", "not recorded") in found


# --- numbers --------------------------------------------------------------------------


def test_equal_runs_do_not_differ(pair):
    found = difference(*pair)
    assert not found.changed
    # log Z; and of two fits forward KL, k̂ and twelve margins, whose headline repeats one
    assert found.compared == found.tests == 1 + 2 * (2 + 12)
    assert found.limit == pytest.approx(NormalDist().inv_cdf(1 - LEVEL / (2 * found.tests)))
    assert found.sentence == "Nothing changed beyond error: 29 numbers compared."


@pytest.mark.parametrize(("errors", "found"), [(10, 1), (1, 0)])
def test_ten_standard_errors_are_found_and_one_is_not(errors, found, pair):
    a, b = pair
    b["fits"][1]["metrics"]["mean_shift"]["by"]["beta[3]"]["value"] += errors * ERROR * 2**0.5
    changed = difference(a, b).numbers
    assert len(changed) == found
    for change in changed:
        assert (change.fit, change.what, change.label) == ("mixture:2/x", "mean_shift", "beta[3]")
        assert change.z == pytest.approx(errors)


def test_log_z_is_compared_too(pair):
    a, b = pair
    b["target"]["log_normalizer"]["value"] += 0.2
    assert texts(difference(a, b).numbers) == [
        ("", "log Z", "−3.000 ± 0.010 nats", "−2.800 ± 0.010 nats")
    ]


def test_exact_numbers_differ_beyond_rounding_alone(pair):
    a, b = pair
    for run, value in ((a, 0.5), (b, 0.5 + 1e-13)):
        run["fits"][0]["metrics"]["khat"] = metric(value, 0.0)
    # an error far below what rounding does is no error either
    b["fits"][1]["metrics"]["khat"] = metric(0.3 + 1e-12, 1e-16)
    a["fits"][1]["metrics"]["khat"] = metric(0.3, 1e-16)
    assert not difference(a, b).changed
    b["fits"][0]["metrics"]["khat"] = metric(0.5 + 1e-5, 0.0)
    [change] = difference(a, b).numbers
    assert (change.before, change.after, change.z) == ("0.5", "0.50001", None)
    b["environment"]["precision"] = "float32"
    assert not difference(a, b).changed


def test_a_number_missing_on_one_side_is_a_change_with_its_reason(pair):
    a, b = pair
    missing = metric(None, None, reason="log q is not known")
    b["fits"][0]["metrics"]["khat"] = missing
    del b["fits"][1]["metrics"]["forward_kl"]
    a["fits"][0]["metrics"]["ess"] = b["fits"][0]["metrics"]["ess"] = missing
    one, two = difference(a, b).numbers
    assert (one.fit, one.what, one.after, one.reason) == ("mvn/x", "khat", "–", missing["reason"])
    assert (two.fit, two.what, two.reason) == ("mixture:2/x", "forward_kl", "not measured")


def test_a_fit_that_failed_in_one_run_is_one_change_not_one_of_each_number(pair):
    a, b = pair
    b["fits"][0] |= {"status": "failed", "metrics": {}}
    b["fits"][0]["verdict"]["word"] = "Failed"
    found = difference(a, b)
    assert found.numbers == ()
    assert texts(found.words) == [
        ("mvn/x", "verdict", "Faithful", "Failed"),
        ("mvn/x", "status", "converged", "failed"),
    ]
    assert found.notes == ()


def test_modes_that_changed_places_in_the_list_are_compared_as_the_same(pair):
    for run, order in zip(pair, ((1, 2), (2, 1)), strict=True):
        found = [
            {"name": f"mode {m}", "place": f"mode {m}", "location": [4.0 * k + 1e-4 * m] * 12}
            for m, k in enumerate(order, 1)
        ]
        run["target"]["modes"] = {"found": found, "reason": ""}
        by = {f"mode {m}": 1.0 if k == 1 else 0.2 for m, k in enumerate(order, 1)}
        run["fits"][0]["metrics"]["mode_coverage"] = metric(by, floor=1.0)
    assert not difference(*pair).changed
    pair[1]["target"]["modes"]["found"][0]["location"] = [11.0] * 12  # it is another one
    found = difference(*pair)
    assert not found.changed
    assert "The runs do not list the same margins or modes of mode_coverage" in found.notes[0]


def test_how_bad_the_worst_is_counts_where_it_is_another_margin(pair):
    a, b = pair
    of = lambda pair, value: metric({pair: value})
    a["fits"][0]["metrics"]["correlation"] = of("a, beta[1]", 0.1)
    b["fits"][0]["metrics"]["correlation"] = of("a, beta[7]", -0.1)
    a["fits"][0]["metrics"]["sd_ratio"] = metric({"a": 0.8}, floor=1.0)
    b["fits"][0]["metrics"]["sd_ratio"] = metric({"beta[1]": 1.25}, floor=1.0)
    assert not difference(a, b).changed
    b["fits"][0]["metrics"]["correlation"] = of("a, beta[7]", -0.5)
    [change] = difference(a, b).numbers
    assert (change.what, change.label, change.before[:3]) == ("correlation", "the worst", "0.1")


@pytest.mark.parametrize(("kind", "changes"), [("signed", 0), ("ratio", 0), ("smaller", 1)])
def test_a_metric_that_this_version_does_not_have_is_compared_as_it_says(kind, changes, pair):
    """The worst margin is another one: at 0.8 and at 1.25, or on both sides of 1."""
    about = ABOUTS["sd_ratio"] | {"name": "wobble", "kind": kind, "unit": "sd"}
    other = {"beta[1]": 1.25 if kind == "ratio" else 1.2}
    for run, found in zip(pair, ({"a": 0.8}, other), strict=True):
        run["metrics"] = ABOUTS | {"wobble": about}
        run["fits"][0]["metrics"]["wobble"] = metric(found, unit="sd")
    found = difference(*pair)
    assert [(c.what, c.label) for c in found.numbers] == [("wobble", "the worst")] * changes
    pair[1]["fits"][0]["metrics"]["wobble"] = metric({"a": 3.0}, unit="sd")
    [change] = difference(*pair).numbers
    assert (change.what, change.label, change.after) == ("wobble", "a", "3.00 ± 0.02 sd")


def test_results_that_do_not_say_what_their_metrics_mean_are_to_be_run_again(pair):
    a, b = pair
    del b["metrics"]["khat"]
    with pytest.raises(InputError, match="run it again"):
        difference(a, b)


# --- the rate of false alarms ---------------------------------------------------------


def drawn(rng, truth):
    return {label: value + ERROR * rng.normal() for label, value in truth.items()}


def worst_few(values, badness, few):
    return {k: values[k] for k in sorted(values, key=lambda k: -badness(values[k]))[:few]}


def all_listed(rng):
    """Every number there is; the truth is 0, 0.1, 0.2, ..."""
    truth = {label: 0.1 * i for i, label in enumerate(MARGINS)}
    return {"mean_shift": metric(drawn(rng, truth)), "khat": metric(ERROR * rng.normal())}


def worst_listed(rng):
    """The worst pair of 66 and the worst five of twelve margins, all equally good: whichever
    chance picks."""
    pairs = {f"{x}, {y}": 0.0 for i, x in enumerate(MARGINS) for y in MARGINS[:i]}
    ratio = lambda r: abs(np.log(r))
    shifts, ratios = (drawn(rng, dict.fromkeys(MARGINS, truth)) for truth in (0.0, 1.0))
    return {
        "correlation": metric(worst_few(drawn(rng, pairs), abs, 1)),
        "corrected_mean_shift": metric(worst_few(shifts, abs, 5)),
        "corrected_sd_ratio": metric(worst_few(ratios, ratio, 5), badness=ratio, floor=1.0),
    }


@pytest.mark.parametrize("made", [all_listed, worst_listed])
def test_runs_that_differ_by_chance_alone_are_rarely_told_apart(made):
    """1,000 pairs of runs of the same truth: of 0.01 of them at most, 10 ± 3.1, more than
    20 have a probability of 0.002. Where all numbers are independent and listed, Bonferroni
    gives away next to nothing, and fewer than 2 have one of 0.0005."""
    rng = np.random.default_rng(0)
    run = lambda: a_run([a_fit(f"fit {k}", made(rng)) for k in range(3)])
    alarms = sum(difference(run(), run()).changed for _ in range(1000))
    assert alarms <= 20
    assert alarms >= 2 or made is worst_listed


# --- words, and what is no change -------------------------------------------------------


def test_a_changed_verdict_is_named_and_a_close_call_is_said_to_be_one(pair):
    a, b = pair
    b["fits"][0]["verdict"] |= {"word": "Too sure", "also": ["Light tails"]}
    found = difference(a, b)
    assert texts(found.words) == [("mvn/x", "verdict", "Faithful", "Too sure (Light tails)")]
    assert "a close call" in found.notes[0]
    assert found.sentence == "0 of 29 numbers changed beyond error; verdicts of 1 fit changed."


def test_a_changed_threshold_and_a_doubted_reference_are_changes(pair):
    a, b = pair
    b["rules"][0]["when"] = "width_ratio < 0.8"
    a["target"]["reference"]["doubts"] = [
        {"kind": "its chains disagree", "words": "its chains disagree: R-hat 1.023, above 1.01"}
    ]
    b["target"]["reference"] |= {
        "doubts": [
            {"kind": "its chains disagree", "words": "its chains disagree: R-hat 1.024"},
            {"kind": "few effective draws", "words": "it is worth 30 draws"},
        ]
    }
    found = difference(a, b)
    assert texts(found.words) == [
        ("", "rule Too sure", "width_ratio < 0.9", "width_ratio < 0.8"),
        ("", "reference: few effective draws", "–", "in doubt"),
    ]


def test_published_figures_are_compared_as_they_came_out(pair):
    row = {"fit": "mvn/x", "quantity": "means[0]", "source": "s", "published": "0.4",
           "ours": 0.41, "standard_error": 0.001, "difference_in_standard_errors": 1.0,
           "result": "reproduced", "reason": ""}  # fmt: skip
    a, b = pair
    a["published"], b["published"] = [row], [row | {"ours": 0.5, "result": "not reproduced"}]
    found = difference(a, b)
    assert [(c.what, round(c.z)) for c in found.numbers] == [("means[0]", 64)]
    assert texts(found.words) == [
        ("mvn/x", "published means[0] = 0.4", "reproduced", "not reproduced")
    ]


def test_versions_seeds_settings_and_costs_are_context(pair):
    a, b = pair
    b["environment"]["versions"]["jax"] = "0.13"
    b["environment"] |= {"seed": 1, "created": "later"}
    b["fits"][0]["cost"] |= {"run_seconds": 99.0, "gradient_evaluations": 2000}
    found = difference(a, b)
    assert not found.changed
    assert texts(found.context) == [("", "seed", "0", "1"), ("", "jax", "0.12", "0.13")]
    assert texts(found.costs) == [("mvn/x", "gradient evaluations", "1000", "2000")]
    assert "The seeds differ" in found.notes[0]


def test_fits_of_one_run_only_are_named(pair):
    a, b = pair
    b["fits"][0]["name"] = "other/x"
    found = difference(a, b)
    assert found.only == (("mvn/x",), ("other/x",))
    assert found.changed


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"name": "line"}, "name plane and line"),
        ({"sites": {"a": [12]}}, r"sites a \(\), beta \(11,\) and a \(12,\)"),
        ({"dim": 13, "modes": {"found": None}}, "dimension 12 and 13"),
    ],
)
def test_different_targets_are_refused_with_what_differs(change, words, pair):
    a, b = pair
    b["target"] |= change
    with pytest.raises(InputError, match=words):
        difference(a, b)


# --- real runs ------------------------------------------------------------------------

SCRIPT = """
    import numpyro
    import numpyro.distributions as dist
    from vi_compare import Given, Study

    def model():
        numpyro.sample("x", dist.Normal(1.0, 2.0))

    def exact(key, n):
        return {"x": dist.Normal(1.0, 2.0).sample(key, (n,))}

    # Its k̂ is well above −1/2, below which the standard error of k̂ does not hold.
    given = Given("given", "mixture:2", weights=[0.5, 0.5], means=[-2.0, 2.0], sds=[1.0, 1.4])
    study = Study(model, exact=exact, fits=["mvn/reverse-kl", given])
"""


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Folder with run folders "a" and "same" of one seed, "other" of another."""
    from vi_compare import Settings, script

    root = tmp_path_factory.mktemp("runs")
    study = script.load(write(root, SCRIPT))
    for name, seed in (("a", 0), ("same", 0), ("other", 1)):
        (root / name).mkdir()
        made = study.run(Settings(seed=seed, draws=2000, restarts=4)).results
        (root / name / "results.json").write_text(json.dumps(made), encoding="utf-8")
    return root


def test_the_same_run_twice_changes_nothing(runs, in_process):
    before = snapshot(runs)
    status, out, err = in_process("diff", str(runs / "a"), str(runs / "same" / "results.json"))
    assert (status, err) == (0, ""), out
    assert out.splitlines()[-1].startswith("Nothing changed beyond error: ")
    assert "level 0.01 over " in out
    assert snapshot(runs) == before


def test_another_seed_changes_no_number_that_both_runs_have(runs):
    """But once in a hundred (`LEVEL`). Neither fit leaves anything to the chance of training;
    numbers that k̂ lets only one run have are no matter of standard errors."""
    a, other = (json.loads((runs / name / "results.json").read_text()) for name in ("a", "other"))
    found = difference(a, other)
    assert [change for change in found.numbers if not change.reason] == []
    assert found.compared > 40
    assert found.words == ()
    assert ("", "seed", "0", "1") in texts(found.context)


def test_a_change_is_printed_and_exits_with_1(runs, tmp_path, in_process):
    results = json.loads((runs / "a" / "results.json").read_text())
    for entry in results["fits"][1]["metrics"]["tail_mass"]["by"].values():
        entry["value"] += 20 * entry["standard_error"]
    results["fits"][1]["verdict"]["word"] = "Heavy tails"
    write(tmp_path, json.dumps(results), "results.json")
    before = snapshot(tmp_path)
    status, out, err = in_process("diff", str(runs / "a"), ".")
    assert (status, err) == (1, "")
    assert "\ngiven\n  verdict: " in out
    assert "-> Heavy tails" in out
    assert "tail_mass, the upper tail of x: " in out
    assert "2 of " in out.splitlines()[-1]
    assert snapshot(tmp_path) == before


def test_many_changes_of_one_metric_are_counted_not_listed(pair, capsys):
    from vi_compare.terminal import show_difference

    a, b = pair
    for i, entry in enumerate(b["fits"][0]["metrics"]["mean_shift"]["by"].values()):
        entry["value"] += 1.0 + i
    show_difference(difference(a, b), ("one", "two"))
    out = capsys.readouterr().out
    assert "A: one\nB: two\n" in out
    # the clearest first: 12 ÷ (0.02 √2) standard errors
    assert "mean_shift, beta[10]: 0.10 ± 0.02 sd -> 12.10 ± 0.02 sd (424 standard errors)" in out
    assert out.count("mean_shift, ") == 3
    assert "mean_shift: 9 more" in out


def test_runs_that_cannot_be_compared_are_refused_in_one_line(runs, tmp_path, in_process):
    good = str(runs / "a")
    refused(*in_process("diff", good, "nowhere"), "nowhere holds no results.json")
    results = json.loads((runs / "a" / "results.json").read_text())
    for text, expected in (
        ("{", "is not valid JSON"),
        ('{"schema": 7}', "is not of schema 1"),
        ('{"schema": 1}', "is not of schema 1: "),
        (json.dumps(results | {"fits": [{"name": "x"}]}), "is not of schema 1: "),
        (json.dumps(results | {"target": results["target"] | {"name": "y"}}), "name script and y"),
    ):
        (tmp_path / "results.json").write_text(text)
        refused(*in_process("diff", good, "."), expected)
    assert [path.name for path in tmp_path.iterdir()] == ["results.json"]


def test_help_names_it_and_its_exit_status(in_process):
    assert "diff" in in_process("--help")[1]
    status, out, _ = in_process("diff", "--help")
    assert status == 0
    assert "1 when something did" in out


def test_it_does_not_wait_for_jax(runs):
    code = (
        "import sys; from vi_compare.cli import main; status = main(sys.argv[1:]);"
        "heavy = {'jax', 'numpyro', 'arviz', 'matplotlib', 'xarray', 'scipy'} & set(sys.modules);"
        "assert not heavy, heavy; sys.exit(status)"
    )
    done = command("diff", "a", "same", cwd=runs, program=(sys.executable, "-c", code))
    assert done.returncode == 0, done.stderr
