"""What a terminal cannot take is lost, and work is not."""

from __future__ import annotations

import errno
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console
from test_report import synthetic

from vi_compare import cli
from vi_compare.report.view import View
from vi_compare.streams import Stream, spelled
from vi_compare.terminal import scoreboard, summarise


def encoded(encoding: str) -> io.TextIOWrapper:
    return io.TextIOWrapper(io.BytesIO(), encoding=encoding)


class Failing(io.StringIO):
    """A stream whose buffer takes everything and cannot be emptied, as a file's does."""

    def __init__(self, number: int):
        super().__init__()
        self.number = number

    def flush(self) -> None:
        raise OSError(self.number, os.strerror(self.number))


@pytest.fixture
def run_folder(tmp_path) -> Path:
    synthetic(names=("[/red]:smile:", "[bold]\\[x]")).save(tmp_path / "run")
    return tmp_path / "run"


@pytest.mark.parametrize(
    ("text", "encoding", "shown"),
    [
        ("−13 405.70 ± 0.01", "ascii", "-13 405.70 +- 0.01"),  # a lost minus would be a lie
        ("(−2.2 ± 1.4) × 10⁻²⁰", "ascii", "(-2.2 +- 1.4) x 10^-20"),
        ("(−2.2 ± 1.4) × 10⁻²⁰", "latin-1", "(-2.2 +- 1.4) x 10^-20"),
        ("k̂ of “α” → 猫", "ascii", 'k-hat of "alpha" -> ?'),
        ("3 ± 1, 猫", "utf-8", "3 ± 1, 猫"),
        ("\udcff", "utf-8", "?"),  # a file name that is no UTF-8
    ],
)
def test_signs_are_spelled_where_the_encoding_has_none(text, encoding, shown):
    assert spelled(text, encoding) == shown
    stream = encoded(encoding)
    Stream(stream).write(text)
    stream.flush()
    assert stream.buffer.getvalue().decode(encoding) == shown


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
@pytest.mark.parametrize("verbose", [False, True])
def test_names_are_no_markup_in_any_encoding(monkeypatch, encoding, verbose):
    comparison = synthetic(names=("[/red]:smile:", "[bold]\\[x]"))
    comparison.results["target"]["name"] = "[/]t"
    out = encoded(encoding)
    monkeypatch.setattr(sys, "stdout", Stream(out))
    summarise(comparison, Path("[/a]") / "report.html", verbose)
    out.flush()
    said = out.buffer.getvalue().decode(encoding)
    for name in ("[/red]:smile:", "[bold]\\[x]", "[/]t", "[/a]/report.html"):
        assert name in said


def test_a_stream_that_cannot_be_written_never_raises():
    full = Stream(Failing(errno.ENOSPC))
    full.write("x")
    assert full.trouble == os.strerror(errno.ENOSPC)
    left = Stream(Failing(errno.EPIPE))
    left.write("x")
    assert left.trouble == ""
    assert isinstance(left.lost, BrokenPipeError)
    gone = io.StringIO()
    gone.close()
    assert Stream(gone).write("x") == 1


@pytest.mark.parametrize(
    ("kind", "trouble"), [("full", True), ("closed", True), ("left", False), ("ascii", False)]
)
def test_the_exit_status_says_the_truth(monkeypatch, capsys, run_folder, kind, trouble):
    """A page that was written is written, whatever becomes of stdout; what was asked for and
    could not be printed was not told; `head` may leave when it has read enough."""
    streams = {
        "full": Failing(errno.ENOSPC),
        "closed": None,
        "left": Failing(errno.EPIPE),
        "ascii": encoded("ascii"),
    }
    monkeypatch.setattr(sys, "stdout", streams[kind])
    assert cli.main(["index", str(run_folder.parent)]) == 0
    assert (run_folder.parent / "index.html").exists()
    said = capsys.readouterr().err
    assert ("the page is" in said) == trouble
    assert cli.main(["--version"]) == trouble
    assert ("stdout cannot be written" in capsys.readouterr().err) == trouble


def test_a_stderr_that_is_full_stops_nothing(monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "stderr", Failing(errno.ENOSPC))
    assert cli.main(["report", str(tmp_path / "nothing")]) == 2


SCRIPT = '''
"""A docstring that opens the page."""
import numpyro, numpyro.distributions as dist
from vi_compare import Given, Study

def model():
    numpyro.sample("x", dist.Normal(0.0, 1.0))

def exact(key, n):
    return {"x": dist.Normal(0.0, 1.0).sample(key, (n,))}

given = Given("[/red]", "mixture:1", weights=[1.0], means=[[0.1]], sds=[[1.0]])
study = Study(model, exact=exact, fits=[given])
'''


def test_a_run_is_whole_when_its_summary_cannot_be_printed(tmp_path):
    """The whole command in a process of its own, its names full of markup."""
    (tmp_path / "s.py").write_text(SCRIPT.lstrip())
    words = [sys.executable, "-m", "vi_compare", "run", "s.py", "--draws", "2000"]
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            words, cwd=tmp_path, stdout=full, stderr=subprocess.PIPE, text=True, check=False,
            env=os.environ | {"PYTHONIOENCODING": "ascii"},
        )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "the page is reports/s/report.html" in done.stderr
    assert "Traceback" not in done.stderr
    assert (tmp_path / "reports/s/report.html").exists()
    results = json.loads((tmp_path / "reports/s/results.json").read_text())
    assert results["fits"][0]["name"] == "[/red]"


def test_nothing_needs_docstrings(tmp_path):
    """ArviZ writes into its own, and a script's opens the page: `python -OO` strips both."""
    (tmp_path / "s.py").write_text(SCRIPT.lstrip().partition("\n")[0])
    code = (
        "import sys, numpy as np\n"
        "from vi_compare.psis import pareto_khat\n"
        "from vi_compare.script import execute\n"
        "from pathlib import Path\n"
        "print(pareto_khat(np.arange(1000.0)) > 1)\n"
        "print(execute(Path(sys.argv[1]))['__doc__'])\n"
    )
    words = [sys.executable, "-OO", "-c", code, tmp_path / "s.py"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.stdout.split("\n")[:2] == ["True", "A docstring that opens the page."], done.stderr


@pytest.mark.parametrize(("variable", "coloured"), [("FORCE_COLOR", True), ("NO_COLOR", False)])
def test_verdicts_are_coloured_unless_nobody_wants_it(monkeypatch, variable, coloured):
    for name in ("NO_COLOR", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv(variable, "1")
    comparison = synthetic()
    comparison.fits[0]["verdict"]["word"] = "Faithful"
    out = io.StringIO()
    console = Console(file=out, width=120, force_terminal=True, color_system="standard")
    console.print(scoreboard(View.of(comparison), console))
    assert ("\x1b[32mFaithful" in out.getvalue()) == coloured


@pytest.mark.parametrize("other", ["--quiet", "--json"])
def test_verbose_and_its_opposites_exclude_each_other(capsys, tmp_path, other):
    assert cli.main(["run", str(tmp_path / "s.py"), "--verbose", other]) == 2
    assert f"--verbose and {other} exclude each other" in capsys.readouterr().err
