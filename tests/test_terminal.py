"""The table on a terminal: what decides is there in full at any width."""

from __future__ import annotations

import io

import pytest
from rich.console import Console
from test_report import synthetic

from vi_compare.report.view import View
from vi_compare.terminal import scoreboard

NAMES = ("mixture:components=12,diagonal/reverse-kl", "mvn/alpha:0.5/svi:steps=500")


def printed(width: int) -> list[str]:
    comparison = synthetic(names=NAMES)
    for fit, word in zip(comparison.fits, ("Wrong mode weights", "Not converged"), strict=True):
        fit["verdict"]["word"] = word
        fit["metrics"]["reverse_kl"] |= {"value": -13405.7, "standard_error": 0.0003}
    out = io.StringIO()
    console = Console(file=out, width=width)
    console.print(scoreboard(View.of(comparison), console))
    return out.getvalue().splitlines()


@pytest.mark.parametrize("width", [60, 80, 120, 200])
def test_fit_verdict_and_both_kls_are_whole_at_any_width(width):
    lines = printed(width)
    assert max(map(len, lines)) <= width
    # A long name goes on in the next line of its column, a verdict of words in its own.
    names = "".join(line[2:].split("   ")[0].strip() for line in lines)
    for name in NAMES:
        assert name in names
    text = " ".join(lines)
    for words in ("2.69 ± 0.03", "−13", "Not", "converged", "Wrong", "mode", "weights"):
        assert words in text
    assert "…" not in text


def test_the_other_numbers_are_there_where_there_is_room():
    assert "Missed" in " ".join(printed(200))
    assert "Missed" not in " ".join(printed(60))
