"""Entries are called by a study's ``coords`` and ``dims``, in every place by the same label.
Oracle: what ArviZ's own tables say of fits.nc."""

from __future__ import annotations

import json

import arviz_stats as azs
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from jsonschema import Draft202012Validator
from numpyro import handlers
from targets import ROOT

from vi_compare import Given, Settings, Study
from vi_compare.cli import main
from vi_compare.comparison import Comparison
from vi_compare.difference import difference
from vi_compare.errors import InputError
from vi_compare.estimate import labels, texts
from vi_compare.report import render
from vi_compare.report.view import View, short
from vi_compare.script import load
from vi_compare.target import Target
from vi_compare.target.naming import Naming

N = 4_000
SCHOOLS = ["Choate", "Deerfield", "Hotchkiss & Co"]


def model():
    """b (2,) in no plate, theta (3, 2) in one, twice (3,) of it; b is correlated."""
    covariance = jnp.array([[1.0, 0.9], [0.9, 1.0]])
    numpyro.sample("b", dist.MultivariateNormal(jnp.zeros(2), covariance))
    with numpyro.plate("school", 3):
        theta = numpyro.sample("theta", dist.Normal().expand([2]).to_event(1))
        numpyro.deterministic("twice", 2 * theta[..., 0])


def narrow(dim=8):
    """Normals with half the sd, which lose the correlation of b."""
    return Given("narrow", "mixture:1", weights=[1.0], means=[[0.0] * dim], sds=[[0.5] * dim])


NAMED = {
    "coords": {"school": SCHOOLS, "feature": ["mean radius", "area"]},
    "dims": {"b": ["feature"]},
    "quantities": {"ratio": lambda z: z["b"] / 2},
}
OF_THETA = [f"theta[{school}, {i}]" for school in SCHOOLS for i in (0, 1)]


def run(**own):
    return Study(model, fits=[narrow()], **own).run(Settings(draws=N))


@pytest.fixture(scope="module")
def named():
    return run(**NAMED)


@pytest.fixture(scope="module")
def counted():
    return run(quantities=NAMED["quantities"])


@pytest.fixture(scope="module")
def folder(named, tmp_path_factory):
    where = tmp_path_factory.mktemp("named")
    named.save(where, render(named))
    return where


def by(found, metric="mean_shift"):
    return found.results["fits"][0]["metrics"][metric]["by"]


# --- labels ---------------------------------------------------------------------------


def test_results_name_the_entries_of_axes_that_have_coords(named):
    of_b = ["b[mean radius]", "b[area]"]
    of_twice = [f"twice[{school}]" for school in SCHOOLS]
    assert set(by(named)) == {*of_b, *OF_THETA, *of_twice, "ratio[0]", "ratio[1]"}
    schema = json.loads((ROOT / "vi_compare" / "results.schema.json").read_text())
    Draft202012Validator(schema).validate(named.results)
    target = named.results["target"]
    assert target["coords"] == NAMED["coords"]
    assert target["dims"]["theta"] == ["school", "theta_dim_1"]


def test_names_change_no_number(named, counted):
    for metric in ("mean_shift", "width_ratio", "sd_ratio"):
        one, two = by(named, metric), by(counted, metric)
        assert sorted(map(json.dumps, one.values())) == sorted(map(json.dumps, two.values()))
        assert one["b[area]"] == two["b[1]"]
        assert one["theta[Hotchkiss & Co, 1]"] == two["theta[2,1]"]


def test_verdicts_and_the_terminal_name_them(named, folder, capsys):
    reasons = named.results["fits"][0]["verdict"]["reasons"]
    pair = "The rank correlation of b[mean radius], b[area] is off"
    assert any(reason.startswith(pair) for reason in reasons)
    assert main(["report", str(folder)]) == 0
    capsys.readouterr()
    script = folder / "mine.py"
    script.write_text(SCRIPT)
    words = ["run", str(script), "--fit", "normal/reverse-kl", "--draws", "1000", "--verbose"]
    assert main([*words, "--out", str(folder / "out")]) == 0
    assert "b[mean radius], b[area]" in " ".join(capsys.readouterr().out.split())


def test_the_page_has_them_escaped_and_finds_its_numbers_by_them(named):
    page = render(named)
    assert "theta[Hotchkiss &amp; Co, 1]" in page
    assert "b[mean radius]" in page
    assert "b[0]" not in page
    view = View.of(named)
    assert set(view.reference) == set(by(named)) == set(view.fits[0].margins)
    assert all(view.fits[0].reading("sd_ratio", label).value for label in view.labels)


@pytest.mark.parametrize(
    ("coordinate", "words"),
    [
        (("a", "b"), ["a", "b"]),
        ((0, 1, 2), None),
        ((1, 2, 3), ["1", "2", "3"]),
        ((1990, 1991), ["1990", "1991"]),
        ((0.1, 0.1 + 0.2), ["0.1", "0.3"]),
        ((1.0, 1.0 + 1e-8), ["1", "1.00000001"]),
        (None, None),
    ],
)
def test_what_only_counts_is_no_name_and_numbers_are_short(coordinate, words):
    assert texts(coordinate) == words


def test_axes_without_names_are_counted_as_ever():
    assert labels("x", ()) == ["x"]
    assert labels("L", (1, 2)) == labels("L", (1, 2), (None, (0, 1))) == ["L[0,0]", "L[0,1]"]
    assert labels("L", (1, 2), (None, ("a", "b"))) == ["L[0, a]", "L[0, b]"]


def test_where_there_is_little_room_the_entry_is_kept():
    assert short("coefficients[worst concave points]", 28) == "coeff…[worst concave points]"
    assert short("coefficients[mean radius]") == "coefficien…[mean radius]"
    assert short("x" * 30) == "x" * 23 + "…"
    assert short("theta[a name that is far too long, 1.25]") == "the…[a name th…ng, 1.25]"


# --- fits.nc --------------------------------------------------------------------------


@pytest.mark.parametrize("group", ["reference", "fits/narrow"])
def test_arviz_reads_the_names_from_the_file(folder, group):
    tree = Comparison.load(folder).draws[group]
    rows = list(azs.summary(tree, kind="stats").index)
    assert rows[:2] == ["b[mean radius]", "b[area]"]
    assert set(OF_THETA) <= set(rows)
    posterior = tree["posterior"]
    assert posterior["theta"].dims == ("chain", "draw", "school", "theta_dim_1")
    one = posterior["theta"].sel(school="Deerfield").values
    np.testing.assert_array_equal(one, posterior["theta"].values[:, :, 1])


def test_a_loaded_run_gives_the_same_page(named, folder):
    assert render(Comparison.load(folder)) == render(named)


def test_thinned_draws_keep_them_and_numbers_stay_numbers():
    from vi_compare.run.draws import _draws, _thinned

    target = Target(model, naming=Naming.of({"school": [1990, 1995, 2000]}, {}))
    draws = target.complete(jnp.zeros((1000, 8)))
    few = _thinned(draws, 10_000)
    assert len(few) < 1000
    held = _draws("reference", few, "reference", target.dims)["reference/posterior"]
    assert held["school"].dtype.kind == "i"
    assert held["theta"].sel(school=1995).shape == (1, len(few), 2)


# --- where names come from ------------------------------------------------------------


def test_dims_name_all_axes_or_those_in_no_plate():
    dims = lambda **own: Target(model, naming=Naming.of({}, own)).dims
    assert dims()["theta"] == ("school", "theta_dim_1")
    assert dims(theta="term")["theta"] == ("school", "term")
    assert dims(theta=["place", "term"])["theta"] == ("place", "term")
    assert dims(theta=[None, "term"])["theta"] == ("school", "term")
    assert dims(twice=["place"])["twice"] == ("place",)


def test_coords_of_a_default_axis_and_of_a_plate_of_data_alone():
    def observed():
        z = numpyro.sample("z", dist.Normal().expand([2]).to_event(1))
        with numpyro.plate("row", 3):
            numpyro.sample("y", dist.Normal(z.sum()), obs=jnp.zeros(3))

    naming = Naming.of({"z_dim_0": np.array(["a", "b"]), "row": range(5, 8)}, {})
    assert Target(observed, naming=naming).coords == {"z": (("a", "b"),)}


def test_sites_in_a_scope_have_one_label_in_results_and_on_the_page():
    """netCDF keeps "/" for groups, so that they have another name there."""
    inner = handlers.scope(lambda: model(), prefix="part")
    found = Study(inner, fits=[narrow()], coords={"part/school": SCHOOLS})
    found = found.run(Settings(draws=1000))
    assert f"part/twice[{SCHOOLS[0]}]" in by(found)
    assert set(View.of(found).reference) == set(by(found))


def test_entries_of_u_have_the_names_of_their_values():
    def supports():
        numpyro.sample("scale", dist.HalfNormal().expand([2]).to_event(1))
        numpyro.sample("share", dist.Dirichlet(jnp.ones(3)))

    naming = Naming.of(
        {"kind": ["a", "b"], "of": ["x", "y", "z"]}, {"scale": "kind", "share": "of"}
    )
    found = Target(supports, naming=naming)
    assert found.coordinates == ["scale[a]", "scale[b]", "share[0]", "share[1]"]


SCRIPT = f"""
import jax.numpy as jnp, numpyro, numpyro.distributions as dist

def model():
    covariance = jnp.array([[1.0, 0.9], [0.9, 1.0]])
    numpyro.sample("b", dist.MultivariateNormal(jnp.zeros(2), covariance))

def coords():
    return {{"feature": {["mean radius", "area"]}}}

dims = {{"b": ["feature"]}}
"""


def test_a_script_names_them(tmp_path):
    script = tmp_path / "mine.py"
    script.write_text(SCRIPT)
    assert load(script).target().coords == {"b": (("mean radius", "area"),)}


def test_variables_of_a_script_that_only_have_these_names_are_its_own(tmp_path):
    script = tmp_path / "mine.py"
    script.write_text(SCRIPT.partition("def coords")[0] + "dims = 2\ncoords = jnp.zeros((5, 2))\n")
    assert load(script).target().coords == {}


def test_names_of_a_scripts_own_data_are_not_those_of_other_data(tmp_path):
    script = tmp_path / "schools.py"
    script.write_text((ROOT / "models" / "eight_schools_noncentred.py").read_text())
    other = tmp_path / "five.csv"
    other.write_text("effect,error\n" + "1.5,2\n" * 5)
    assert "schools" in load(script).coords
    found = load(script, data=other)
    assert not found.coords
    assert "coords" in found.data.told[0]
    assert found.target().coords == {}


# --- what cannot be used ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("own", "words"),
    [
        ({"coords": ["a"]}, "coords is a list; it must be a dict"),
        ({"dims": ["a"]}, "dims is a list; it must be a dict"),
        ({"coords": {1: ["a"]}}, "a name in coords must be a text"),
        ({"coords": {"school": "abc"}}, "'school' is 'abc'; give a list"),
        ({"coords": {"school": 3}}, "'school' is 3; give a list"),
        ({"coords": {"school": ["a", "b", "a"]}}, "has 'a' twice"),
        ({"coords": {"school": ["a", "b"]}}, "has 2 names for 3 entries"),
        ({"coords": {"school": ["a", "b", None]}}, "holds None; give texts"),
        ({"coords": {"school": ["a", "b", True]}}, "holds True; give texts"),
        ({"coords": {"school": ["a", "b", " "]}}, "must not be empty"),
        ({"coords": {"school": ["a", "b", "c\nd"]}}, "give texts of one line"),
        ({"coords": {"school": ["a", "b", 3]}}, "texts and numbers"),
        ({"coords": {"school": [1.0, 2.0, float("nan")]}}, "holds nan"),
        ({"coords": {"school": [1, 2, 2**70]}}, "holds 1180591620717411303424"),
        ({"coords": {"school": np.zeros((3, 2))}}, "holds array"),
        ({"coords": {"schol": SCHOOLS}}, "no axis is called 'schol'; did you mean school"),
        ({"coords": {"feature": ["a", "b"]}}, 'or give an axis that name: dims = {"b"'),
        ({"coords": lambda: 1 / 0}, r"coords\(\) raises ZeroDivisionError"),
        ({"dims": {"thet": ["a"]}}, "no latent site or quantity 'thet'; did you mean theta"),
        ({"dims": {"b": ["a", "c"]}}, r"'b' has 1 axis \(b_dim_0\) and 2 names"),
        ({"dims": {"b": 3}}, "'b' has 3; give names of its axes"),
        ({"dims": {"b": [3]}}, "a name for an axis of 'b' must be a text"),
        ({"dims": {"theta": ["a", "a"]}}, "two axes of 'theta' are called 'a'"),
        ({"dims": {"b": ["school"]}}, "is called 'school', as one of 3"),
        (
            {
                "dims": {"theta": ["s", "t"]},
                "coords": {"s": ["a", "a, b", "c"], "t": ["b, c", "c"]},
            },
            r"would be called 'theta\[a, b, c\]'",
        ),
    ],
)
def test_what_names_nothing_is_refused(own, words):
    with pytest.raises(InputError, match=words):
        Study(model, **own).prepare(Settings(draws=1000))


def test_the_command_line_says_so_in_one_line_and_writes_nothing(tmp_path, capsys):
    script = tmp_path / "mine.py"
    script.write_text(SCRIPT.replace("'area'", "'mean radius'"))
    assert main(["run", str(script), "--out", str(tmp_path / "out")]) == 2
    said = capsys.readouterr().err.strip().splitlines()
    assert len(said) == 1
    assert "has 'mean radius' twice; give every entry" in said[0]
    assert not (tmp_path / "out").exists()


# --- two runs ---------------------------------------------------------------------------


def test_a_run_is_compared_with_one_of_other_names_entry_by_entry(named, counted):
    for a, b in ((named, counted), (counted, named)):
        found = difference(a.results, b.results)
        assert not found.changed
        assert found.compared > len(by(a)) * 5
        assert any("Entries of b, theta and twice have other names" in x for x in found.notes)


def test_the_same_names_in_another_order_are_the_same_entries(named):
    """Of what changed in the one the other has it elsewhere."""
    back = {**NAMED["coords"], "school": SCHOOLS[::-1]}
    found = difference(named.results, run(**NAMED | {"coords": back}).results)
    assert not any("other names" in note for note in found.notes)


def test_runs_from_before_there_were_names_can_be_read_and_compared(counted, tmp_path):
    old = json.loads(json.dumps(counted.results))
    del old["target"]["dims"], old["target"]["coords"]
    assert not difference(old, counted.results).notes
    Comparison(old, counted.draws).save(tmp_path)
    assert "theta[2,1]" in render(Comparison.load(tmp_path))


@pytest.mark.parametrize(
    ("name", "label"),
    [
        ("breast_cancer", "coefficients[worst fractal dimension]"),
        ("eight_schools_centred", "theta[H]"),
        ("eight_schools_noncentred", "z[H]"),
    ],
)
def test_models_of_the_gallery_name_theirs(name, label):
    assert label in load(ROOT / "models" / f"{name}.py").target().coordinates
