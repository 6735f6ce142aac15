"""Ways in: data files, one of several models, draws made elsewhere; and bad ones of each."""

from __future__ import annotations

import json

import numpy as np
import pytest
import xarray as xr
from test_cli import kept_report, refused, snapshot, write

from vi_compare import Settings, script
from vi_compare.errors import InputError
from vi_compare.files.data import read_data
from vi_compare.files.tables import read_table

SCRIPT = """
    import jax.numpy as jnp
    import numpyro
    import numpyro.distributions as dist

    def model(x, y, scale=1.0):
        slope = numpyro.sample("slope", dist.Normal(0.0, 2.0))
        with numpyro.plate("rows", len(y)):
            numpyro.sample("y", dist.Normal(slope * jnp.asarray(x), scale), obs=jnp.asarray(y))

    def robust(x, y, scale=1.0):
        slope = numpyro.sample("slope", dist.Normal(0.0, 2.0))
        numpyro.sample("y", dist.StudentT(3.0, slope * jnp.asarray(x), scale), obs=jnp.asarray(y))

    data = {"x": [1.0, 2.0, 3.0], "y": [1.1, 1.9, 3.2]}

    def exact(key, n):
        return {"slope": dist.Normal(0.0, 1.0).sample(key, (n,))}
"""
X, Y = [1.0, 2.0, 4.0, 5.0], [0.5, 1.5, 2.0, 2.5]


def as_json(path):
    path.write_text(json.dumps({"x": X, "y": Y, "scale": 0.5}))


def as_npz(path):
    np.savez(path, x=X, y=Y, scale=0.5)


def as_netcdf(path):
    groups = {
        "constant_data": xr.Dataset({"x": ("row", X), "scale": 0.5}),
        "observed_data": xr.Dataset({"y": ("row", Y)}),
    }
    xr.DataTree.from_dict(groups).to_netcdf(path, engine="h5netcdf")


def as_csv(path):
    rows = "\n".join(f"{x},{y}" for x, y in zip(X, Y, strict=True))
    path.write_text(f"x,y\n{rows}\n")


def density(slope: float, scale: float) -> float:
    """log joint of the first model on X and Y, by NumPy."""
    log_normal = lambda r, sd: -0.5 * (r / sd) ** 2 - np.log(sd * np.sqrt(2 * np.pi))
    residual = np.array(Y) - slope * np.array(X)
    return float(log_normal(slope, 2.0) + log_normal(residual, scale).sum())


@pytest.mark.parametrize(
    ("ending", "writer", "scale"),
    [(".json", as_json, 0.5), (".npz", as_npz, 0.5), (".nc", as_netcdf, 0.5), (".csv", as_csv, 1)],
)
def test_data_of_a_file_take_the_place_of_the_scripts(ending, writer, scale, tmp_path):
    path = write(tmp_path, SCRIPT)
    file = tmp_path / f"data{ending}"
    writer(file)
    study = script.load(path, data=file)
    assert study.exact is None  # it draws from the posterior of the script's own data
    found = study.target().log_density(np.array([0.3]))
    np.testing.assert_allclose(found, density(0.3, scale), rtol=1e-12)


def test_one_of_several_models_is_picked_by_its_name(tmp_path):
    path = write(tmp_path, SCRIPT)
    assert script.split(f"{path}:robust") == (path, "robust")
    assert script.split(path) == (path, None)
    study = script.load(path, "robust")
    assert (study.name, study.exact) == ("script:robust", None)
    assert study.target().sites[0].name == "slope"


BROKEN_DATA = {
    "missing column": ("d.csv", "x,z\n1,2\n", "holds no 'y', which the model needs"),
    "unknown column": ("d.csv", "x,y,w\n1,2,3\n", "'w', which the model does not take"),
    "NaN": ("d.csv", "x,y\n1,2\n2,nan\n", "column 'y', row 3: missing, NaN"),
    "infinite": ("d.json", '{"x": [1], "y": [1e999]}', "'y' at [0]: missing, NaN or infinite"),
    "null": ("d.json", '{"x": [1, 2], "y": [1, null]}', "'y' at [1]: missing, NaN or inf"),
    "a text": ("d.csv", "x,y\n1,two\n", "row 2, column 'y': it holds 'two' where a number is due"),
    "an empty cell": ("d.csv", "x,y\n1,2\n,3\n", "column 'x', row 3: missing, NaN or infinite"),
    "long rows": ("d.csv", "x,y\n1,2\n1,2,3\n", "Expected 2 fields in line 3, saw 3"),
    "twice": ("d.csv", "x,x\n1,2\n", "has two columns of the same name"),
    "nothing": ("d.csv", "", "has no rows"),
    "texts": ("d.json", '{"x": ["a"], "y": [1]}', "'x' holds texts"),
    "ragged": ("d.json", '{"x": [[1], [1, 2]], "y": [1]}', "'x' is no array of numbers"),
    "ragged rows": ("d.csv", "x,y\n1,2\n1\n", "row 3: 1 values for 2 columns"),
    "NA in an index": ("d.csv", "x,y\n1,2\nNA,3\n,4\n", "column 'x', row 3, 4: missing"),
    "semicolons": ("d.csv", "x;y\n1,5;2\n", "by semicolons; write it with commas"),
    "tabs": ("d.csv", "x\ty\n1.5\t2\n", "by tabs; write it with commas"),
    "nothing in it": ("d.json", '{"x": [], "y": []}', "'x' is empty; give its numbers"),
    "a key twice": ("d.json", '{"x": [1], "y": [1], "y": [2]}', "holds 'y' twice; keep one"),
    "a huge integer": ("d.json", f'{{"x": [1], "y": [1{"0" * 400}]}}', "a number beyond 1.8e308"),
    "very deep": ("d.json", "[" * 100_000, "cannot be read: RecursionError"),
    "no rows": ("d.csv", "x,y\n", "has no rows"),
    "wrong shapes": ("d.json", '{"x": [1, 2, 3], "y": [1, 2]}', "cannot be run on its data"),
    "no object": ("d.json", "[1, 2]", "must be {argument: value}"),
    "no JSON": ("d.json", "{", "cannot be read: JSONDecodeError"),
    "not netCDF": ("d.nc", "x", "cannot be read"),
    "another kind": ("d.txt", "x", "give one of .json, .npz, .csv, .nc"),
}


@pytest.mark.parametrize("name", BROKEN_DATA)
def test_broken_data_are_refused_in_one_line(name, tmp_path, in_process):
    file, text, expected = BROKEN_DATA[name]
    write(tmp_path, SCRIPT)
    (tmp_path / file).write_text(text)
    before = kept_report(tmp_path)
    refused(*in_process("run", "script.py", "--data", file, "--out", "out"), expected)
    assert snapshot(tmp_path / "out") == before


BROKEN_WORDS = {
    "no such model": (["script.py:modle"], "defines no model 'modle'; did you mean model?"),
    "no such data": (["script.py", "--data", "none.csv"], "there is no file none.csv"),
    "no such reference": (["script.py", "--reference", "none.nc"], "there is no file none.nc"),
    "reference of others": (["script.py", "--reference", "other.csv"], "holds no 'slope'"),
    "a word and a file": (
        ["script.py", "--reference", "nuts", "--reference", "other.csv"],
        "reference is 'nuts' and more; give one word, or files alone",
    ),
    "draws of others": (["script.py", "--fit", "other.csv"], "holds no 'slope'"),
    "a fit is wrong, NUTS is not run": (
        ["script.py:robust", "--fit", "mvn/forward-kl/mode"],
        "cannot fit mvn by forward-kl",
    ),
    "data() raises": (["raising.py"], "data() raises KeyError"),
}


@pytest.mark.parametrize("name", BROKEN_WORDS)
def test_broken_words_are_refused_in_one_line(name, tmp_path, in_process):
    words, expected = BROKEN_WORDS[name]
    write(tmp_path, SCRIPT)
    write(tmp_path, SCRIPT + "\n    def data():\n        return {}['x']\n", "raising.py")
    (tmp_path / "other.csv").write_text("mu\n" + "0.5\n" * 500)
    before = kept_report(tmp_path)
    refused(*in_process("run", *words, "--out", "out"), expected)
    assert snapshot(tmp_path / "out") == before


def test_comments_blank_lines_and_excels_byte_order_mark_are_skipped(tmp_path):
    text = "# made by hand\n x , y\n\n1,0.1\n# a remark\n2, 1e-3\n"
    (tmp_path / "d.csv").write_bytes(b"\xef\xbb\xbf" + text.encode())
    found = read_table(tmp_path / "d.csv")
    assert {name: column.tolist() for name, column in found.items()} == {
        "x": [1.0, 2.0],
        "y": [0.1, 0.001],
    }


def test_a_large_number_does_not_overflow_into_an_integer(tmp_path):
    (tmp_path / "d.csv").write_text("y\n1e300\n2\n")
    assert read_data(tmp_path / "d.csv", lambda y: None)["y"].tolist() == [1e300, 2.0]


def test_whole_numbers_of_a_table_stay_whole(tmp_path):
    (tmp_path / "d.csv").write_text("group,y\n0,1.5\n2,2\n")
    data = read_data(tmp_path / "d.csv", lambda group, y: None)
    assert data["group"].dtype.kind == "i"
    assert data["y"].dtype.kind == "f"
    with pytest.raises(InputError, match="holds no 'n'"):
        read_data(tmp_path / "d.csv", lambda group, y, n: None)


def test_draws_made_elsewhere_are_compared_and_what_needs_log_q_says_why(tmp_path):
    """Draws of N(0.5, 1) against N(0, 1): half an sd off, with a k̂ that nobody can know."""
    source = """
        import numpyro
        import numpyro.distributions as dist

        def model():
            numpyro.sample("x", dist.Normal(0.0, 1.0))

        def exact(key, n):
            return {"x": dist.Normal(0.0, 1.0).sample(key, (n,))}
    """
    rng = np.random.default_rng(0)
    rows = "\n".join(map(str, rng.normal(0.5, 1.0, 3000)))
    (tmp_path / "stan.csv").write_text(f"x\n{rows}\n")
    from dataclasses import replace

    study = replace(script.load(write(tmp_path, source)), fits=[str(tmp_path / "stan.csv")])
    comparison = study.run(Settings(draws=4000, restarts=1))
    assert comparison.verdicts == {"stan.csv": "Shifted"}
    shift = comparison.scores["stan.csv", "mean_shift", "all"]
    # Five standard errors: once in a million.
    assert abs(shift.value - 0.5) < 5 * shift.standard_error
    for metric in ("forward_kl", "reverse_kl", "khat", "elbo", "eubo", "missed_mass"):
        estimate = comparison.scores["stan.csv", metric, "all"]
        assert estimate.value is None
        assert "log q is not known" in estimate.reason
    from vi_compare.report import render

    assert "log q is not known" in render(comparison)


# --- scripts as people have them ---------------------------------------------------------------

COIN = """
import numpyro, numpyro.distributions as dist, numpy as np
{magic}
flips = np.array([1, 0, 1, 1])
def model(flips):
    p = numpyro.sample("p", dist.Beta(2, 2))
    numpyro.sample("flips", dist.Bernoulli(p), obs=flips)
data = {{"flips": flips}}
"""


def sites_of(path):
    return [site.name for site in script.load(path).target().sites]


@pytest.mark.parametrize(
    "magic",
    ["%matplotlib inline", "!pip install numpyro", "get_ipython().system('ls')", "np.array?", ""],
)
def test_a_notebook_is_a_script_without_what_only_ipython_reads(tmp_path, magic):
    lines = COIN.format(magic=magic).splitlines(keepends=True)
    cells = [
        {"cell_type": "markdown", "source": ["# Coin"]},
        {"cell_type": "code", "source": lines[:3], "outputs": [{"data": {"x": None}}]},
        {"cell_type": "code", "source": lines[3:]},
    ]
    path = tmp_path / "coin.ipynb"
    path.write_text(json.dumps({"cells": cells, "nbformat": 4, "metadata": {}}))
    assert sites_of(path) == ["p"]
    exported = tmp_path / "exported.py"
    exported.write_text(COIN.format(magic=magic))
    assert sites_of(exported) == ["p"]


def test_what_is_no_notebook_is_said(tmp_path):
    (tmp_path / "empty.ipynb").write_text("{}")
    with pytest.raises(InputError, match="does not parse: it is no notebook"):
        script.load(tmp_path / "empty.ipynb")


def test_a_module_of_a_package_finds_its_neighbours(tmp_path):
    folder = tmp_path / "outer" / "inner"
    folder.mkdir(parents=True)
    for package in (folder, folder.parent):
        (package / "__init__.py").write_text("")
    (folder.parent / "wide.py").write_text("WIDE = 4.0\n")
    (folder / "priors.py").write_text("SCALE = 2.0\n")
    (folder / "regress.py").write_text(
        "import numpyro, numpyro.distributions as dist\n"
        "from .priors import SCALE\nfrom ..wide import WIDE\n"
        "def model():\n    numpyro.sample('m', dist.Normal(WIDE, SCALE))\n"
    )
    assert sites_of(folder / "regress.py") == ["m"]


def test_a_script_that_reads_the_command_line_sees_an_empty_one(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("sys.argv", ["vi-compare", "run", "script.py", "--seed", "3"])
    body = COIN.format(magic="import argparse; parser = argparse.ArgumentParser()")
    (tmp_path / "lenient.py").write_text(body + "print(parser.parse_args())\n")
    assert sites_of(tmp_path / "lenient.py") == ["p"]
    (tmp_path / "strict.py").write_text(body + "parser.add_argument('x'); parser.parse_args()\n")
    with pytest.raises(InputError, match=r"raises SystemExit at line .* reads the command line"):
        script.load(tmp_path / "strict.py")
    assert capsys.readouterr().err == ""


def test_data_under_main_are_asked_for_where_they_can_be_seen(tmp_path):
    body = COIN.format(magic="").replace("data = {", "if __name__ == '__main__':\n    data = {")
    (tmp_path / "late.py").write_text(body)
    with pytest.raises(InputError, match=r"needs 'flips', which data does not give; define data"):
        script.load(tmp_path / "late.py").target()
