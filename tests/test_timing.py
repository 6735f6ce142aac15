"""The profile adds up, on a clock that the test turns by hand."""

from __future__ import annotations

import time

import pytest
from test_report import synthetic

from vi_compare.cli import main
from vi_compare.timing import Profile


@pytest.fixture
def clock(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    return now


def test_parts_within_parts_add_up_and_the_rest_is_shown(clock):
    profile = Profile()
    with profile.timed("measuring"):
        for _ in range(2):
            with profile.timed("khat"):
                clock[0] += 1.5
        clock[0] += 4.0
    clock[0] += 0.25
    assert [line.split(maxsplit=1) for line in profile.text().splitlines()[1:]] == [
        ["7.00", "measuring"],
        ["3.00", "khat × 2"],
        ["4.00", "the rest"],
        ["0.25", "the rest"],
        ["7.25", "in all"],
    ]


def test_a_part_that_raises_is_counted_and_left(clock):
    profile = Profile()

    def fail():
        with profile.timed("fitting"):
            clock[0] += 2.0
            raise ValueError

    with pytest.raises(ValueError):  # noqa: PT011
        fail()
    with profile.timed("rendering"):
        clock[0] += 1.0
    assert [row[:3] for row in profile.root.rows()] == [
        (0, "fitting", 2.0),
        (0, "rendering", 1.0),
    ]


def test_report_prints_where_its_time_went_on_stderr_when_asked(tmp_path, capsys):
    folder = tmp_path / "run"
    synthetic().save(folder)
    assert main(["report", str(folder)]) == 0
    assert "rendering" not in capsys.readouterr().err
    assert main(["report", str(folder), "--profile"]) == 0
    said = capsys.readouterr().err
    assert "reading the run folder" in said
    assert "  scoreboard" in said
