"""How a run goes on: every long stage has its line, and nothing is promised."""

from __future__ import annotations

import contextlib
import io
import re
import sys

import IPython.display

from vi_compare.run.progress import NotebookLine, Silent, Terminal, watching


def told(observer) -> None:
    """What a study tells, in small."""
    with observer:
        observer.begin("checking the model", quiet=True)
        observer.end("")
        observer.begin("mvn/[/red]:smile:", "fit 3 of 4")
        observer.progress(1200, 10000, "loss 3.2")
        seen_total = observer.bars.tasks[-1].total if isinstance(observer, Terminal) else None
        observer.progress(0, None, "12 starts at once")
        if isinstance(observer, Terminal):
            assert (seen_total, observer.bars.tasks[-1].total) == (10000, None)
            observer.bars.refresh()
        observer.end("converged")


def on(file, monkeypatch, *, terminal: bool) -> str:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys, "stderr", file)
    # Rich asks the environment, too, whether a terminal is meant.
    for name in ("FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)
    file.isatty = lambda: terminal
    told(Terminal())
    return file.getvalue()


def test_a_terminal_shows_the_place_of_a_fit_and_no_remaining_time(monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    text = on(io.StringIO(), monkeypatch, terminal=True)
    assert "fit 3 of 4: mvn/[/red]:smile:" in text
    assert "12 starts at once" in text
    # One clock: the time that has passed.
    last = [line for line in re.split(r"[\r\n]", text) if "12 starts" in line][-1]
    assert len(re.findall(r"\d:\d\d:\d\d|-:--:--", last)) == 1


def test_elsewhere_there_are_plain_lines_and_none_of_a_quiet_stage(monkeypatch):
    lines = on(io.StringIO(), monkeypatch, terminal=False).splitlines()
    assert lines[0] == "mvn/[/red]:smile: ..."
    assert re.fullmatch(r"mvn/\[/red\]:smile:: converged, 0\.\d s", lines[1])
    assert len(lines) == 2


class Handle:
    def __init__(self):
        self.shown: list[str] = []

    def update(self, data, raw):
        assert raw
        self.shown.append(data["text/plain"])


def test_a_notebook_has_one_line_which_is_gone_at_the_end(monkeypatch):
    handle = Handle()
    monkeypatch.setattr(IPython.display, "display", lambda *a, **k: handle)
    told(NotebookLine(least_seconds=0.0))
    assert "fit 3 of 4: mvn/[/red]:smile: ..." in handle.shown
    assert "fit 3 of 4: mvn/[/red]:smile:: 1 200 of 10 000, loss 3.2, 0 s" in handle.shown
    assert handle.shown[-1] == ""
    # A failure leaves no line behind either.
    with contextlib.suppress(ValueError), NotebookLine() as line:
        line.begin("mvn")
        raise ValueError
    assert handle.shown[-1] == ""


def test_a_session_without_a_terminal_is_silent(monkeypatch):
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    assert type(watching()) is Silent
    monkeypatch.setattr(sys, "stderr", None)
    assert type(watching()) is Silent
