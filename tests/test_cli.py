"""The command line: bad input, determinism, files. Every run goes through a real process."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import textwrap
import time
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest

from vi_compare import catalogue

ROOT = Path(__file__).parent.parent
THREE_PEAKS = ROOT / "models" / "three_peaks.py"
QUICK = ["--draws", "2000", "--restarts", "8", "--seed", "9"]

GOOD = """
    import numpyro
    import numpyro.distributions as dist

    def model():
        numpyro.sample("x", dist.Normal(1.0, 2.0))

    def exact(key, n):
        return {"x": dist.Normal(1.0, 2.0).sample(key, (n,))}
"""


def command(*words, cwd, program=(sys.executable, "-m", "vi_compare")):
    return subprocess.run(
        [*program, *map(str, words)], cwd=cwd, capture_output=True, text=True, timeout=600
    )


def write(folder: Path, source: str, name: str = "script.py") -> Path:
    path = folder / name
    path.write_text(textwrap.dedent(source), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """One small run of three_peaks: (folder, completed process)."""
    cwd = tmp_path_factory.mktemp("run")
    done = command("run", THREE_PEAKS, *QUICK, "--out", "out", cwd=cwd)
    assert done.returncode == 0, done.stderr
    return cwd / "out", done


# --- bad input -----------------------------------------------------------------------

BROKEN_SCRIPTS = {
    "does not parse": ("def model(:\n    pass\n", "does not parse: line 1"),
    "raises": (GOOD + "\n    1 / 0\n", "raises ZeroDivisionError at line 11"),
    "exits": (GOOD + "\n    raise SystemExit(0)\n", "raises SystemExit"),
    "no model": ("x = 1\n", "defines no function `model`"),
    "study of another type": (GOOD + "\n    study = 3\n", "study is a int"),
    "no latent site": (
        "import numpyro\nimport numpyro.distributions as dist\n"
        "def model():\n    numpyro.sample('y', dist.Normal(0, 1), obs=0.5)\n",
        "no latent site",
    ),
    "discrete latent site": (
        "import numpyro\nimport numpyro.distributions as dist\n"
        "def model():\n    numpyro.sample('k', dist.Poisson(3.0))\n",
        "site 'k' is discrete",
    ),
    "NaN at every start": (
        "import numpyro\nimport numpyro.distributions as dist\n"
        "def model():\n    numpyro.sample('x', dist.Normal(0, 1))\n"
        "    numpyro.factor('f', float('nan'))\n",
        "NaN at every one",
    ),
    "-inf at every start": (
        "import numpyro\nimport numpyro.distributions as dist\n"
        "def model():\n    x = numpyro.sample('x', dist.Normal(0, 1))\n"
        "    numpyro.sample('y', dist.Uniform(0, 1), obs=2.0)\n",
        "−inf",
    ),
    "model raises": ("def model():\n    raise ValueError('no such table')\n", "no such table"),
    "data is no dict": (GOOD + "\n    data = [1, 2]\n", "data is a list"),
    "data does not fit": (GOOD + "\n    data = {'y': 1}\n", "unexpected keyword argument 'y'"),
    "exact: wrong site": (
        GOOD.replace('return {"x":', 'return {"z":'),
        "exact(key, n) returns no 'x'",
    ),
    "exact: extra site": (
        GOOD.replace("(n,))}", "(n,)), 'w': key}"),
        "returns 'w', which the model does not have",
    ),
    "exact: no dict": (GOOD.replace("return {", "return 5 or {"), "returns a int"),
    "exact: wrong shape": (GOOD.replace("(n,))}", "(n, 1))}"), "of shape (2000, 1) for n = 2000"),
    "exact: NaN": (GOOD.replace("(n,))}", "(n,)) * float('nan')}"), "NaN or infinite"),
    "exact: raises": (GOOD.replace("return {", "raise OSError('gone')\n        return {"), "gone"),
    "exact: shifted": (
        GOOD.replace("(n,))}", "(n,)) + 0.5}"),
        "exact(key, n) does not draw from the model",
    ),
    "exact: rescaled": (
        GOOD.replace("(n,))}", "(n,)) * 1.2 - 0.2}"),
        "exact(key, n) does not draw from the model",
    ),
    "exact: another distribution": (
        # the same mean and variance: only its shape is wrong
        GOOD.replace(
            "dist.Normal(1.0, 2.0).sample(key, (n,))}",
            "dist.Uniform(1 - 2 * 3**0.5, 1 + 2 * 3**0.5).sample(key, (n,))}",
        ),
        "exact(key, n) does not draw from the model",
    ),
    "study: unknown guide": (
        GOOD + "\n    import vi_compare\n"
        "    study = vi_compare.Study(model, exact=exact, fits=['mixtur:2/reverse-kl'])\n",
        "no guide is called 'mixtur'; did you mean mixture?",
    ),
    "study: published figures of no fit": (
        GOOD + "\n    import vi_compare\n"
        "    study = vi_compare.Study(model, exact=exact, fits=['mvn/forward-kl'],\n"
        "        published=[vi_compare.Published('mvn/reverse-kl', 's', means=['1'])])\n",
        "did you mean mvn/forward-kl?",
    ),
    "study: published number is no text": (
        GOOD + "\n    import vi_compare\n"
        "    study = vi_compare.Study(model, exact=exact, fits=['mvn/forward-kl'],\n"
        "        published=[vi_compare.Published('mvn/forward-kl', 's', means=[None])])\n",
        "write them as printed, in quotes",
    ),
    "study: given weights": (
        GOOD + "\n    import vi_compare\n"
        "    given = vi_compare.Given('g', 'mixture:2', weights=[1, 1], means=[0, 1], sds=[1, 1])\n"
        "    study = vi_compare.Study(model, exact=exact, fits=[given])\n",
        "weights must be positive and sum to 1",
    ),
}


@pytest.mark.parametrize("name", BROKEN_SCRIPTS)
def test_a_broken_script_is_refused_in_one_line_before_anything_is_written(
    name, tmp_path, in_process
):
    source, expected = BROKEN_SCRIPTS[name]
    write(tmp_path, source)
    before = kept_report(tmp_path)
    status, out, err = in_process("run", "script.py", "--draws", "2000", "--out", "out")
    refused(status, out, err, expected)
    assert snapshot(tmp_path / "out") == before


BROKEN_OPTIONS = {
    "unknown guide": (["--fit", "mixtur:2/reverse-kl"], "did you mean mixture?"),
    "unknown divergence": (["--fit", "mvn/reverse"], "did you mean reverse-kl?"),
    "unknown solver": (["--fit", "mvn/reverse-kl/sv"], "did you mean svi?"),
    "unsuited solver": (["--fit", "mvn/reverse-kl/moments"], "cannot fit mvn by reverse-kl"),
    "unknown guide option": (["--fit", "mixture:compnents=2/reverse-kl"], "mean components?"),
    "option of no option": (["--fit", "mvn:3/reverse-kl"], "mvn:3: it takes no option"),
    "option of wrong type": (["--fit", "mixture:two/reverse-kl"], "must be a whole number"),
    "no component": (["--fit", "mixture:0/reverse-kl"], "no component"),
    "negative rank": (["--fit", "lowrank:-1/reverse-kl"], "positive rank"),
    "zero particles": (["--fit", "mvn/reverse-kl:0"], "particles must be at least 1"),
    "negative steps": (["--fit", "mvn/reverse-kl/svi:steps=-5"], "steps must be at least"),
    "no divergence": (["--fit", "mvn"], "write GUIDE/DIVERGENCE"),
    "too many parts": (["--fit", "mvn/reverse-kl/svi/x"], "write GUIDE/DIVERGENCE"),
    "same fit twice": (["--fit", "mvn/reverse-kl", "--fit", "mvn/reverse-kl"], "asked for twice"),
    "zero draws": (["--draws", "0"], "'--draws'"),
    "negative restarts": (["--restarts", "-1"], "'--restarts'"),
    "negative seed": (["--seed", "-1"], "'--seed'"),
    "seed is no number": (["--seed", "x"], "'--seed'"),
    "unknown effort": (["--effort", "heroic"], "effort must be quick, normal, thorough, got"),
    "unknown reference": (
        ["--reference", "truth"],
        "exact, chains, nuts, none or draws made elsewhere",
    ),
    "unknown option": (["--drawz", "5"], "--draws"),
    "forward KL without draws": (
        ["--fit", "mvn/forward-kl", "--reference", "none"],
        "forward-kl needs draws of the target",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", BROKEN_OPTIONS)
def test_a_broken_option_is_refused_in_one_line(name, tmp_path, in_process):
    words, expected = BROKEN_OPTIONS[name]
    write(tmp_path, GOOD)
    before = kept_report(tmp_path)
    extra = [] if "--draws" in words else ["--draws", "2000"]
    status, out, err = in_process("run", "script.py", "--out", "out", *extra, *words)
    refused(status, out, err, expected)
    assert snapshot(tmp_path / "out") == before


def test_no_exact_sampler_is_said_when_it_is_asked_for(tmp_path, in_process):
    # Of a model of which nothing is observed the model itself would be the sampler.
    source = "\n".join(textwrap.dedent(GOOD).splitlines()[:6])
    source += "\n    numpyro.sample('y', dist.Normal(x, 1.0), obs=0.5)\n"
    source = source.replace('    numpyro.sample("x"', '    x = numpyro.sample("x"')
    write(tmp_path, source)
    status, out, err = in_process("run", "script.py", "--reference", "exact")
    refused(status, out, err, "the script defines no exact(key, n)")


def test_an_output_folder_that_cannot_be_written_is_refused_before_fitting(tmp_path, in_process):
    write(tmp_path, GOOD)
    (tmp_path / "file").write_text("in the way")
    for out in ("file", "file/below"):
        status, stdout, err = in_process("run", "script.py", "--out", out)
        refused(status, stdout, err, "--out")
    assert (tmp_path / "file").read_text() == "in the way"
    status, stdout, err = in_process("run", "script.py", "--out", "/proc/vi_compare")
    refused(status, stdout, err, "cannot be written")


def test_check_refuses_what_run_refuses(tmp_path, in_process):
    write(tmp_path, BROKEN_SCRIPTS["exact: shifted"][0])
    refused(*in_process("check", "script.py"), "does not draw from the model")


def test_report_of_no_run_folder_is_refused(tmp_path, in_process):
    refused(*in_process("report", "nowhere"), "holds no results.json")
    (tmp_path / "results.json").write_text("{")
    refused(*in_process("report", "."), "is not valid JSON")
    (tmp_path / "results.json").write_text('{"schema": 7}')
    refused(*in_process("report", "."), "is not of schema 1")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["results.json"]


def test_debug_shows_the_traceback(tmp_path, in_process):
    from vi_compare.errors import InputError

    write(tmp_path, BROKEN_SCRIPTS["raises"][0])
    with pytest.raises(InputError) as caught:
        in_process("run", "script.py", "--debug")
    assert isinstance(caught.value.__cause__, ZeroDivisionError)


@pytest.mark.parametrize(
    ("words", "status"),
    [
        (["--help"], 0),
        (["--version"], 0),
        (["run", "--help"], 0),
        (["run", "missing.py"], 2),
        (["run", "x", "--no"], 2),
    ],
)
def test_quick_answers_do_not_wait_for_jax(words, status, tmp_path):
    """Under a second on a quiet machine; what decides it is that JAX is not imported."""
    code = (
        "import sys; from vi_compare.cli import main; status = main(sys.argv[1:]);"
        "heavy = {'jax', 'numpyro', 'arviz', 'matplotlib', 'xarray'} & set(sys.modules);"
        "assert not heavy, heavy; sys.exit(status)"
    )
    done = command(*words, cwd=tmp_path, program=(sys.executable, "-c", code))
    assert done.returncode == status, done.stderr
    assert "Traceback" not in done.stderr


def test_the_version_is_that_of_the_distribution(in_process):
    from importlib.metadata import metadata

    import vi_compare

    told = metadata("vi-compare")
    assert in_process("--version") == (0, f"vi-compare {told['Version']}\n", "")
    assert vi_compare.__version__ == told["Version"]
    assert told["License-Expression"] == "Apache-2.0"
    assert told["Author"] == "The vi_compare contributors"
    assert told.get_all("License-File") == ["LICENSE"]


def test_the_licence_is_the_standard_text():
    text = (ROOT / "LICENSE").read_text(encoding="utf-8")
    assert text.split()[:6] == ["Apache", "License", "Version", "2.0,", "January", "2004"]
    assert "END OF TERMS AND CONDITIONS" in text


def test_list_piped_into_a_narrow_terminal_has_every_entry_whole_on_one_line(
    in_process, tmp_path, monkeypatch
):
    monkeypatch.setenv("COLUMNS", "80")
    (tmp_path / "models").mkdir()
    write(tmp_path / "models", f'    """{"A long line. " * 20}"""\n' + GOOD, "mine.py")
    status, out, _ = in_process("list")
    assert status == 0
    [entry] = [line for line in out.splitlines() if line.split()[:1] == ["mixture"]]
    assert re.search(r"mixture +\S.* components=2, diagonal=False", entry)
    [script] = [line for line in out.splitlines() if "mine.py" in line]
    assert ("A long line. " * 20).strip() in script
    for kind in catalogue.KINDS:
        for name in catalogue.names(kind):
            assert any(line.split()[:1] == [name] for line in out.splitlines()), name


def test_check_shows_the_target_and_what_would_be_fitted(in_process, tmp_path):
    write(tmp_path, GOOD)
    status, out, _ = in_process("check", "script.py", "--fit", "mvn/reverse-kl")
    assert status == 0
    assert "script: 1 unconstrained dimension" in out
    assert re.search(r"x +\(\) +Real\(\)", out)
    assert re.search(r"mvn/reverse-kl +\S+ +about \d+ s", out)


def test_completion_offers_the_names_of_the_part_being_typed():
    from vi_compare.cli import complete_fit

    assert "mixture" in complete_fit("mi")
    assert "mvn/reverse-kl" in complete_fit("mvn/re")
    assert "mvn/reverse-kl/svi" in complete_fit("mvn/reverse-kl/")


# --- a run ----------------------------------------------------------------------------


def test_results_fit_the_schema(finished):
    from jsonschema import Draft202012Validator

    folder, _ = finished
    schema = json.loads(files("vi_compare").joinpath("results.schema.json").read_text("utf-8"))
    Draft202012Validator.check_schema(schema)
    Draft202012Validator(schema).validate(results(folder))


def test_the_run_prints_verdicts_and_the_path_of_the_page(finished):
    folder, done = finished
    assert "three_peaks" in done.stdout
    for fit in results(folder)["fits"]:
        assert fit["verdict"]["reasons"][0][:40] in done.stdout.replace("\n", " ")
    assert done.stdout.rstrip().endswith("report.html")
    assert (folder / "report.html").stat().st_size > 10_000


def test_the_published_forward_row_is_refuted_and_the_reverse_row_holds(finished):
    folder, _ = finished
    rows = results(folder)["published"]
    by_fit = lambda name: [r["result"] for r in rows if r["fit"] == name]
    assert set(by_fit("mixture:2/reverse-kl")) == {"reproduced"}
    assert set(by_fit("mixture:2/forward-kl")) == {"not reproduced"}
    [loss] = [r for r in rows if r["fit"] == "published forward KL"]
    # 2.70 nats by quadrature (tests/test_three_peaks.py); 4 standard errors
    assert abs(loss["ours"] - 2.70) < 4 * loss["standard_error"] + 0.01


def test_draws_open_in_xarray_and_arviz(finished):
    import arviz_stats as azs
    import xarray as xr

    folder, _ = finished
    tree = xr.open_datatree(folder / "fits.nc", engine="h5netcdf")
    for fit in results(folder)["fits"]:
        group = tree[fit["group"]]
        assert dict(group["posterior"].sizes) == {"chain": 1, "draw": 2000}
        assert {"log_p", "log_q"} <= set(group["sample_stats"].data_vars)
        table = azs.summary(group, kind="stats", round_to="none")
        assert table.loc["x", "mean"] == pytest.approx(float(group["posterior"]["x"].mean()))
    assert tree.attrs["run"] == results(folder)["run"]
    assert tree["reference/posterior"].sizes["draw"] == 2000


def test_a_saved_fit_gives_the_same_density_bit_for_bit(finished):
    import jax
    import jax.numpy as jnp
    import xarray as xr

    from vi_compare import script
    from vi_compare.approximation import GuideApproximation, set_up
    from vi_compare.run.labels import parse_part

    folder, _ = finished
    target = script.load(THREE_PEAKS).target()
    tree = xr.open_datatree(folder / "fits.nc", engine="h5netcdf")
    for fit in results(folder)["fits"]:
        guide = parse_part("guides", fit["guide"]).build(target.model)
        set_up(guide, target, jax.random.key(0))
        params = {name: jnp.asarray(value) for name, value in fit["params"].items()}
        group = tree[fit["group"]]
        draws = target.complete(jnp.asarray(group["unconstrained"]["u"].values))
        log_q = GuideApproximation(guide, params, target).at(draws).log_q
        np.testing.assert_array_equal(log_q, group["sample_stats"]["log_q"].values[0])
        np.testing.assert_array_equal(draws.log_p, group["sample_stats"]["log_p"].values[0])


def test_report_renders_the_same_page_from_what_is_saved(finished):
    folder, _ = finished
    before = (folder / "report.html").read_bytes()
    done = command("report", folder, cwd=folder)
    assert done.returncode == 0, done.stderr
    assert (folder / "report.html").read_bytes() == before


# --- determinism ----------------------------------------------------------------------


def test_the_same_command_gives_the_same_results_bit_for_bit(finished):
    """Both ways in: `vi-compare run models/x.py` and `python models/x.py`."""
    from vi_compare.comparison import without_times

    folder, _ = finished
    again = folder.parent / "again"
    program = (sys.executable, str(THREE_PEAKS))
    done = command(*QUICK, "--out", again, cwd=folder.parent, program=program)
    assert done.returncode == 0, done.stderr
    a, b = (without_times(results(f)) for f in (folder, again))
    for one in (a, b):
        del one["environment"]["command"], one["run"]
    assert json.dumps(a) == json.dumps(b)


def test_adding_a_fit_changes_no_other(finished):
    folder, _ = finished
    more = folder.parent / "more"
    fits = ["mvn/forward-kl", "mixture:2/reverse-kl", "mixture:2/forward-kl"]
    words = [word for fit in fits for word in ("--fit", fit)]
    done = command("run", THREE_PEAKS, *QUICK, *words, "--out", more, cwd=folder.parent)
    assert done.returncode == 0, done.stderr
    old = {f["name"]: f for f in results(folder)["fits"]}
    new = {f["name"]: f for f in results(more)["fits"]}
    for name in fits[1:]:
        assert old[name]["params"] == new[name]["params"]
        for metric in ("forward_kl", "reverse_kl", "missed_mass", "khat"):
            assert old[name]["metrics"][metric] == new[name]["metrics"][metric]


def test_another_seed_gives_other_numbers(finished):
    folder, _ = finished
    other = folder.parent / "other"
    words = [*QUICK[:-1], "10", "--fit", "mixture:2/forward-kl", "--out", other]
    done = command("run", THREE_PEAKS, *words, cwd=folder.parent)
    assert done.returncode == 0, done.stderr
    [new] = results(other)["fits"]
    [old] = [f for f in results(folder)["fits"] if f["name"] == new["name"]]
    assert new["params"] != old["params"]


# --- a script without a study, and a failed fit ----------------------------------------


def test_a_script_that_only_defines_a_model_climbs_the_ladder(tmp_path):
    write(tmp_path, GOOD)
    done = command("run", "script.py", "--draws", "2000", "--restarts", "2", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    out = results(tmp_path / "reports" / "script")
    # A normal is fitted to a normal: the first rung passes.
    assert out["ladder"]["found"] == "normal/reverse-kl"
    assert out["ladder"]["not_tried"] == ["mvn/reverse-kl", "mixture:auto/reverse-kl"]
    assert out["ladder"]["left_out"] == {"coupling": "one dimension has nothing to couple"}
    assert [f["name"] for f in out["fits"]] == ["normal/reverse-kl", "normal/forward-kl"]
    assert "The cheapest approximation that passes is normal/reverse-kl" in done.stdout


def test_a_fit_that_fails_is_reported_and_exits_with_1(tmp_path):
    write(
        tmp_path,
        """
        import jax.numpy as jnp
        import numpyro
        import numpyro.distributions as dist

        def model():
            x = numpyro.sample("x", dist.Normal(0.0, 1.0))
            # fine at every start, NaN a little further out
            numpyro.sample("y", dist.Normal(jnp.where(jnp.abs(x) > 2, jnp.nan, x), 1.0), obs=0.0)
        """,
    )
    words = ["--fit", "mvn/reverse-kl/svi", "--draws", "1000", "--restarts", "2"]
    words += ["--reference", "none"]
    done = command("run", "script.py", *words, cwd=tmp_path)
    assert done.returncode == 1, done.stderr
    [fit] = results(tmp_path / "reports" / "script")["fits"]
    assert fit["status"] == "failed"
    assert fit["verdict"]["word"] == "Failed"
    assert "site 'y' has log density NaN at x = " in fit["restarts"][0]["status"]
    assert "Traceback" not in done.stderr


def test_an_interrupted_run_leaves_the_old_report(finished):
    """Ctrl-C in the middle of fitting: the files of the last run stay as they are."""
    folder, _ = finished
    before = snapshot(folder)
    # a test runner in the background ignores Ctrl-C, and its children inherit that
    listening = (
        "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler);"
        "from vi_compare.cli import main; sys.exit(main(sys.argv[1:]))"
    )
    running = subprocess.Popen(
        [sys.executable, "-c", listening, "run", str(THREE_PEAKS), "--out", str(folder)],
        cwd=folder.parent,
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert running.stderr is not None
    deadline = time.monotonic() + 300
    while "reverse-kl ..." not in running.stderr.readline():
        assert time.monotonic() < deadline, "it never began to fit"
    running.send_signal(signal.SIGINT)
    _, err = running.communicate(timeout=300)
    assert running.returncode == 130
    assert "interrupted" in err
    assert snapshot(folder) == before


# --- helpers -------------------------------------------------------------------------


def refused(status, out, err, expected):
    assert status == 2, (status, out, err)
    assert out == ""
    assert expected in err
    assert err.startswith("vi-compare: ")
    assert err.count("\n") == 1, err


def kept_report(folder: Path) -> dict[str, bytes]:
    (folder / "out").mkdir()
    (folder / "out" / "report.html").write_text("the report of an earlier run")
    return snapshot(folder / "out")


def snapshot(folder: Path) -> dict[str, bytes]:
    return {
        os.path.relpath(p, folder): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()
    }


def results(folder: Path) -> dict:
    return json.loads((folder / "results.json").read_text(encoding="utf-8"))
