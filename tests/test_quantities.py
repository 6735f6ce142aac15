"""What a model, or a study, computes of the latent values is measured like a site, and verdicts can
rest on it alone. Oracles: closed forms of normals and log-normals."""

from __future__ import annotations

import json

import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from jsonschema import Draft202012Validator
from scipy import stats
from targets import ROOT

from vi_compare import Given, Settings, Study
from vi_compare.errors import InputError
from vi_compare.report import render
from vi_compare.run.identity import told
from vi_compare.script import load
from vi_compare.target import MOST_ENTRIES, Target

N = 20_000


def pair():
    """x and y are standard normal with a correlation of 0.9; d = x − y has variance 0.2."""
    covariance = jnp.array([[1.0, 0.9], [0.9, 1.0]])
    xy = numpyro.sample("xy", dist.MultivariateNormal(jnp.zeros(2), covariance))
    numpyro.deterministic("d", xy[0] - xy[1])
    numpyro.deterministic("growth", jnp.exp(xy))


def standard(dim=2):
    return Given("standard", "mixture:1", weights=[1.0], means=[[0.0] * dim], sds=[[1.0] * dim])


def independent():
    """Right margins and no correlation: of x − y the sd is √2 where √0.2 is right."""
    return standard()


def run(model=pair, fits=None, **own):
    return Study(model, fits=fits or [independent()], **own).run(Settings(draws=N))


@pytest.fixture(scope="module")
def whole():
    return run()


@pytest.fixture(scope="module")
def by_x():
    return run(judge=["xy"])


def metric(found, name, label):
    return found.results["fits"][0]["metrics"][name]["by"][label]


def test_a_deterministic_site_is_measured_like_a_latent_one(whole):
    """The 90 % interval of a normal is 3.29 sds: √(2/0.2) times too long. Of exp(x) it is the same
    as the target's. Within 4.5 standard errors: once in 150,000."""
    width = metric(whole, "width_ratio", "d")
    assert abs(width["value"] - np.sqrt(10)) < 4.5 * width["standard_error"]
    growth = metric(whole, "width_ratio", "growth[1]")
    assert abs(growth["value"] - 1) < 4.5 * growth["standard_error"]
    assert whole.results["target"]["quantities"] == {"d": [], "growth": [2]}


def test_the_headline_is_that_of_the_worst_margin_or_of_what_is_judged(whole, by_x):
    """Over all margins the difference is far too wide; x and y by themselves are perfect but for
    their correlation; exp of them has no fault at all but that."""
    assert whole.results["fits"][0]["verdict"]["word"] == "Too diffuse"
    verdict = by_x.results["fits"][0]["verdict"]
    assert verdict["word"] == "Loses dependence"
    assert "Judged by xy alone." in verdict["reasons"]
    assert any("Too diffuse" in reason for reason in verdict["reasons"][-1:])
    assert by_x.results["target"]["judged"] == ["xy"]
    # All is measured all the same.
    assert set(by_x.results["fits"][0]["metrics"]["width_ratio"]["by"]) >= {"d", "xy[0]"}


def test_a_fit_can_be_right_where_it_counts_and_wrong_elsewhere():
    """Of independent draws a single margin is perfect."""
    first = {"first": lambda z: z["xy"][..., 0]}
    verdict = run(quantities=first, judge=["first"]).results["fits"][0]["verdict"]
    assert verdict["word"] == "Faithful"
    assert verdict["use_for"] == "its draws of first can be used directly"


def test_a_study_computes_what_it_likes_of_a_draw():
    """P(|x| < 1) is no margin, but x² is chi-square with one degree of freedom: its median."""
    found = run(quantities={"square": lambda z: z["xy"][0] ** 2, "half": lambda z: z["d"] / 2})
    square = found.draws["reference"]["posterior"]["square"].values.ravel()
    median, truth = np.median(square), stats.chi2(1).median()
    error = np.sqrt(0.25 / N) / stats.chi2(1).pdf(truth)
    assert abs(median - truth) < 4.5 * error
    half, d = (found.draws["reference"]["posterior"][k].values for k in ("half", "d"))
    np.testing.assert_allclose(half, d / 2)


def test_results_and_page_have_them(whole, by_x):
    schema = json.loads((ROOT / "vi_compare" / "results.schema.json").read_text())
    Draft202012Validator(schema).validate(by_x.results)
    assert "growth[0]" in render(whole)
    assert "Judged by" in render(by_x)
    assert "Which fit to use, where all margins count" in render(by_x)


def test_what_has_too_many_entries_or_no_numbers_is_left_out_and_said():
    n = MOST_ENTRIES + 1

    def model():
        x = numpyro.sample("x", dist.Normal())
        numpyro.deterministic("path", x * jnp.arange(n))
        numpyro.deterministic("phase", jnp.exp(1j * x))
        numpyro.deterministic("is_up", x > 0)

    target = Target(model)
    assert [one.name for one in target.quantities] == ["is_up"]
    assert any(f"path, whose {n} entries are too many" in text for text in told(target))
    with pytest.raises(InputError, match="'path' has too many entries"):
        Study(model, judge=["path"]).prepare(Settings(draws=1000))


def test_what_is_no_number_at_some_draws_is_no_margin():
    def model():
        x = numpyro.sample("x", dist.Normal())
        numpyro.deterministic("root", jnp.sqrt(x))

    found = run(model, [standard(1)])
    fit = found.results["fits"][0]
    assert fit["verdict"]["word"] == "Faithful"
    assert list(fit["metrics"]["width_ratio"]["by"]) == ["x"]


def test_axes_of_a_quantity_are_named_by_its_plates():
    def model():
        with numpyro.plate("school", 3):
            z = numpyro.sample("z", dist.Normal())
            numpyro.deterministic("theta", 2 * z)

    assert Target(model).dims == {"z": ("school",), "theta": ("school",)}


@pytest.mark.parametrize(
    ("own", "words"),
    [
        ({"quantities": [1]}, "quantities is a list; it must be a dict"),
        ({"quantities": {"q": 3}}, "the quantity 'q' is 3; give a function"),
        ({"quantities": {"xy": lambda z: z["xy"]}}, "'xy' has the name of a site"),
        ({"quantities": {"q": lambda z: z["typo"]}}, "the quantity 'q' raises KeyError"),
        ({"quantities": {"q": lambda z: "a"}}, "the quantity 'q' returns"),
        ({"judge": ["dd"]}, "there is no site or quantity 'dd'; did you mean d"),
        ({"judge": [3]}, "judge"),
    ],
)
def test_what_cannot_be_computed_or_judged_is_refused(own, words):
    with pytest.raises(InputError, match=words):
        Study(pair, **own).prepare(Settings(draws=1000))


def test_a_script_names_them_and_the_command_line_what_to_judge_by(tmp_path):
    from vi_compare.cli import main

    script = tmp_path / "mine.py"
    script.write_text(
        "import numpyro, numpyro.distributions as dist\n"
        "def model():\n    numpyro.sample('x', dist.Normal())\n"
        "quantities = {'twice': lambda z: 2 * z['x']}\n"
    )
    assert list(load(str(script)).quantities) == ["twice"]
    words = ["run", str(script), "--fit", "normal/reverse-kl", "--draws", "1000"]
    out = tmp_path / "out"
    assert main([*words, "--judge", "twice", "--out", str(out), "--quiet"]) == 0
    results = json.loads((out / "results.json").read_text())
    assert results["target"]["judged"] == ["twice"]
    assert main([*words, "--judge", "thrice", "--out", str(tmp_path / "no")]) == 2
    assert not (tmp_path / "no").exists()
