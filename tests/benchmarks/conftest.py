"""Ratios within one run: machines are shared and noisy, so ours and the peer take turns."""

from __future__ import annotations

import os
import time
from statistics import median

import jax
import pytest

jax.config.update("jax_enable_x64", True)

LINES: list[str] = []


@pytest.fixture
def compare(benchmark):
    """``compare(label, ours, peer, rounds)``: time both in turn, print medians and ratio."""

    def run(label, ours, peer, rounds=5, **facts):
        pairs = []
        ours(), peer()  # what is compiled once is not what is compared
        for _ in range(rounds):
            pairs.append((_seconds(ours), _seconds(peer)))
        a, b = (median(column) for column in zip(*pairs, strict=True))
        ratios = sorted(peer / ours for ours, peer in pairs)
        benchmark.extra_info |= {"ratio": median(ratios), "ours": a, "peer": b} | facts
        benchmark.pedantic(ours, rounds=1)
        more = "".join(f", {name} {value}" for name, value in facts.items())
        LINES.append(
            f"{label}: {a:.3g} s against {b:.3g} s, ratio {median(ratios):.1f} "
            f"({ratios[0]:.1f} to {ratios[-1]:.1f}){more}"
        )

    return run


@pytest.fixture
def environment():
    """As an installed package runs: its bytecode is kept, as that of its libraries is."""
    return {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}


def _seconds(function) -> float:
    begin = time.perf_counter()
    jax.block_until_ready(function())
    return time.perf_counter() - begin


def pytest_terminal_summary(terminalreporter):
    terminalreporter.section("ratios")
    for line in LINES:
        terminalreporter.write_line(line)
