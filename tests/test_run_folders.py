"""Run folders after an accident: edited, cut, flipped, left behind, on a full disk, on a bad path.

Each ends in one line and leaves what was there; nothing here is fitted."""

from __future__ import annotations

import copy
import errno
import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from test_cli import GOOD, refused, snapshot, write
from test_report import synthetic

from vi_compare import cli
from vi_compare.comparison import Comparison, writing


@pytest.fixture(scope="module")
def comparison() -> Comparison:
    return synthetic()


@pytest.fixture
def folder(comparison, tmp_path):
    """A run folder with a page."""
    comparison.save(tmp_path / "run", "the page of that run")
    return tmp_path / "run"


# --- edited results ----------------------------------------------------------------------


def cut(*place):
    def edit(results):
        for key in place[:-1]:
            results = results[key]
        del results[place[-1]]

    return edit


def put(value, *place):
    def edit(results):
        for key in place[:-1]:
            results = results[key]
        results[place[-1]] = value

    return edit


EDITS = {
    "no target": cut("target"),
    "no fits": cut("fits"),
    "no rules": cut("rules"),
    "no environment": cut("environment"),
    "no run": cut("run"),
    "no verdict": cut("fits", 0, "verdict"),
    "no reasons": cut("fits", 0, "verdict", "reasons"),
    "metrics null": put(None, "fits", 0, "metrics"),
    "a metric null": put(None, "fits", 0, "metrics", "khat"),
    "a value text": put("0.5", "fits", 0, "metrics", "khat", "value"),
    "fits null": put(None, "fits"),
    "fits a text": put("mvn", "fits"),
    "a fit a number": put(3, "fits", 0),
    "dim a text": put("one", "target", "dim"),
    "dim zero": put(0, "target", "dim"),
    "dim half": put(1.5, "target", "dim"),
    "sites a list": put(["x"], "target", "sites"),
    "an unknown source": put("oracle", "target", "reference", "source"),
    "an unknown doubt": put([{"kind": "a mood", "words": ""}], "target", "reference", "doubts"),
    "a word too much": put("now", "target", "extra"),
    "schema true": put("1", "schema"),
}


@pytest.mark.parametrize("name", EDITS)
def test_edited_results_are_refused_in_one_line_that_names_the_place(
    name, comparison, folder, in_process
):
    results = copy.deepcopy(comparison.results)
    EDITS[name](results)
    (folder / "results.json").write_text(json.dumps(results))
    before = snapshot(folder)
    for words in (["report", "run"], ["diff", "run", "run"]):
        status, out, err = in_process(*words)
        refused(status, out, err, "is not of schema 1")
        assert len(err) < 400
    assert snapshot(folder) == before


TEXTS = {
    "nothing": "",
    "deep lists": "[" * 100_000,
    "deep objects": '{"a":' * 100_000,
    "NaN": '{"schema": 1, "run": NaN}',
    "infinity": '{"schema": 1, "run": 1e400}',
    "a long integer": '{"schema": 1, "run": ' + "9" * 400 + "}",
    "a very long integer": '{"schema": 1, "run": ' + "9" * 9000 + "}",
    "half": '{"schema": 1, "targ',
}


@pytest.mark.parametrize("name", TEXTS)
def test_what_is_no_json_is_one_line_and_one_line_of_the_index(
    name, comparison, folder, in_process, tmp_path
):
    bad = tmp_path / "bad"
    bad.mkdir()
    (bad / "results.json").write_text(TEXTS[name])
    refused(*in_process("report", "bad"), "is not valid JSON")
    assert in_process("index", ".")[0] == 0
    page = (tmp_path / "index.html").read_text()
    assert page.count("is not valid JSON") == 1
    assert "Two peaks" in page


def test_bytes_that_are_no_text_are_no_json(folder, in_process):
    (folder / "results.json").write_bytes(b"\xff\xfe{")
    refused(*in_process("report", "run"), "is not valid JSON")


@pytest.mark.parametrize("seed", range(4))
def test_a_flipped_bit_of_the_draws_is_noticed_wherever_it_is(folder, in_process, seed):
    file, rng = folder / "fits.nc", np.random.default_rng(seed)
    data = bytearray(file.read_bytes())
    data[rng.integers(len(data))] ^= 1 << int(rng.integers(8))
    file.write_bytes(data)
    refused(*in_process("report", "run"), "fits.nc is not the file that was written")


def test_the_checksum_is_that_of_other_programs(folder):
    done = subprocess.run(["sha256sum", "-c", "fits.nc.sha256"], cwd=folder, check=False)
    assert done.returncode == 0


@pytest.mark.parametrize("size", [0, 100, 5000])
def test_draws_cut_short_are_refused_without_a_checksum_too(folder, in_process, size):
    (folder / "fits.nc.sha256").unlink()
    os.truncate(folder / "fits.nc", size)
    refused(*in_process("report", "run"), "fits.nc cannot be read")


def test_a_page_that_cannot_be_made_of_edited_files_is_one_line(comparison, folder, in_process):
    results = comparison.results | {"fits": comparison.results["fits"] * 1}
    path = {"schema": 1, "run": results["run"], "branches": [{"nmae": "A"}], "metrics": {}}
    (folder / "path.json").write_text(json.dumps(path))
    before = snapshot(folder)
    refused(*in_process("report", "run"), "cannot be shown, perhaps because its files were edited")
    assert snapshot(folder) == before
    (folder / "path.json").write_text("[" * 100_000)
    refused(*in_process("report", "run"), "path.json is not valid JSON")


# --- paths -------------------------------------------------------------------------------

LONG = "a" * 300


@pytest.mark.parametrize(
    "words",
    [
        ["run", f"{LONG}.py"],
        ["run", "script.py", "--out", LONG],
        ["run", "script.py", "--out", f"{LONG}/below"],
        ["run", "script.py", "--out", "b/" * 3000],
        ["run", "script.py", "--data", f"{LONG}.csv"],
        ["run", "script.py", "--reference", f"{LONG}.csv"],
        ["run", "script.py", "--fit", f"{LONG}.csv"],
        ["check", f"{LONG}.py"],
        ["path", "script.py", "--out", LONG],
        ["report", LONG],
        ["index", LONG],
        ["diff", LONG, LONG],
        ["run", "script.py", "--out", "loop"],
        ["run", "script.py", "--out", "loop/below"],
        ["run", "script.py", "--out", "nowhere"],
        ["run", "loop"],
        ["report", "loop"],
        ["index", "loop"],
        ["run", "script.py", "--data", "loop"],
        ["run", "script.py", "--out", ""],
        ["run", "script.py", "--out="],
        ["run", "script.py", "--reference", ""],
        ["run", ""],
        ["index", ""],
        ["run", "script.py", "--out", "taken"],
    ],
)
def test_a_path_that_cannot_be_is_refused_before_any_fit(words, tmp_path, in_process):
    write(tmp_path, GOOD)
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "nowhere").symlink_to("gone")
    (tmp_path / "taken" / "report.html").mkdir(parents=True)
    before = sorted(tmp_path.iterdir())
    refused(*in_process(*words), "vi-compare: ")
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.skipif(not os.geteuid(), reason="root may read and write everything")
@pytest.mark.parametrize(
    "words",
    [
        ["run", "closed/script.py"],
        ["run", "script.py", "--out", "closed/out"],
        ["run", "script.py", "--data", "closed/d.csv"],
        ["run", "script.py", "--reference", "closed/d.csv"],
        ["report", "closed/run"],
        ["index", "closed"],
    ],
)
def test_a_folder_without_permission_is_refused(words, tmp_path, in_process):
    write(tmp_path, GOOD)
    (tmp_path / "closed").mkdir(mode=0)
    refused(*in_process(*words), "vi-compare: ")


# --- full disks, leftovers, signals ----------------------------------------------------------


def no_room(*_, **__):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_disk_without_room_is_refused_before_the_fits(tmp_path, in_process, monkeypatch):
    write(tmp_path, GOOD)
    monkeypatch.setattr(os, "posix_fallocate", no_room)
    status, out, err = in_process("run", "script.py", "--draws", "2000", "--out", "out")
    refused(status, out, err, "out needs about")
    assert not (tmp_path / "out").exists()
    assert [p.name for p in tmp_path.iterdir()] == ["script.py"]


def test_a_disk_that_fills_up_while_saving_is_one_line_and_leaves_the_old_report(
    comparison, folder, in_process, monkeypatch
):
    before = snapshot(folder)
    monkeypatch.setattr(os, "posix_fallocate", no_room)
    with pytest.raises(OSError, match="No space left"):
        comparison.save(folder, "another page")
    assert snapshot(folder) == before
    monkeypatch.setattr(writing.Path, "write_text", no_room)
    status, out, err = in_process("report", "run")
    assert (status, out, err.count("\n")) == (1, "", 1)
    assert err.startswith("vi-compare: No space left on device")
    assert snapshot(folder) == before


def test_memory_that_is_not_there_is_one_line(folder, in_process, monkeypatch):
    def grow(*_):
        raise MemoryError

    monkeypatch.setattr(cli, "_render", grow)
    status, _, err = in_process("report", "run")
    assert (status, err.count("\n")) == (2, 1)


def test_what_a_killed_run_left_is_no_report_and_goes_with_the_next(
    comparison, folder, in_process, tmp_path
):
    """One scratch folder is held by a process that lives, the other by none."""
    for name in ("dead", "alive"):
        comparison.save(tmp_path / f".vi-compare-{name}" / "run", "half a page")
    old = time.time() - 60
    hold = "import fcntl, os, sys; h = os.open(sys.argv[1], 0); fcntl.flock(h, 6); print(); input()"
    alive = tmp_path / ".vi-compare-alive"
    with subprocess.Popen(
        [sys.executable, "-c", hold, alive], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        for left in (tmp_path / ".vi-compare-dead", alive):
            os.utime(left, (old, old))
        assert in_process("index", ".")[0] == 0
        assert (tmp_path / "index.html").read_text().count("report.html") == 1
        holder.communicate(b"\n")
    assert sorted(p.name for p in tmp_path.iterdir()) == [".vi-compare-alive", "index.html", "run"]


def test_a_scratch_folder_that_is_new_stays(tmp_path):
    (tmp_path / ".vi-compare-new").mkdir()
    with writing.writable(tmp_path / "out"):
        pass
    assert [p.name for p in tmp_path.iterdir()] == [".vi-compare-new"]


@pytest.mark.parametrize(
    ("number", "status", "word"),
    [(signal.SIGTERM, 143, "terminated"), (signal.SIGINT, 130, "interrupted")],
)
def test_a_signal_ends_the_command_in_one_line(number, status, word, capsys, monkeypatch, tmp_path):
    write(tmp_path, f"import signal\nsignal.raise_signal({int(number)})\n")
    monkeypatch.chdir(tmp_path)
    before = signal.getsignal(signal.SIGTERM)
    old = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        assert cli.main(["run", "script.py"]) == status
    finally:
        signal.signal(signal.SIGINT, old)
    assert capsys.readouterr().err == f"vi-compare: {word}; no report is half-written\n"
    assert signal.getsignal(signal.SIGTERM) == before
    assert [p.name for p in tmp_path.iterdir()] == ["script.py"]


def test_a_signal_waits_until_the_files_are_in_place(comparison, tmp_path, monkeypatch):
    old = signal.signal(signal.SIGINT, signal.default_int_handler)
    whole = type(tmp_path).replace

    def stop_and_replace(self, there):
        signal.raise_signal(signal.SIGINT)
        return whole(self, there)

    monkeypatch.setattr(type(tmp_path), "replace", stop_and_replace)
    try:
        with pytest.raises(KeyboardInterrupt):
            comparison.save(tmp_path / "run", "a page")
    finally:
        signal.signal(signal.SIGINT, old)
    written = {p.name for p in (tmp_path / "run").iterdir()}
    assert written == {"results.json", "fits.nc", "fits.nc.sha256", "report.html"}
