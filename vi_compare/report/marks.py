"""When a number gets ✓, ! or ✗: a table of data.

The marks help the eye; the verdict has rules of its own, which weigh the standard error.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from vi_compare.report.view import Reading


@dataclass(frozen=True)
class Scale:
    """✓ while badness(value) ≤ `good`, ! while ≤ `near`, ✗ beyond.

    Attributes:
        words: the same in words, shown on the page.
    """

    words: str
    badness: Callable[[float], float]
    good: float
    near: float

    def mark(self, reading: Reading) -> str:
        if reading.value is None:
            return ""
        bad = self.badness(reading.value)
        return "good" if bad <= self.good else "near" if bad <= self.near else "bad"


def _off(ideal: float) -> Callable[[float], float]:
    return lambda value: abs(value - ideal)


def _fold(value: float) -> float:
    """How many times too large or too small."""
    return math.inf if value <= 0 else max(value, 1 / value)


SIGNS = {"good": "✓", "near": "!", "bad": "✗", "": ""}

# {metric: scale}; a metric without one is shown without a mark.
SCALES = {
    "forward_kl": Scale("✓ up to 0.1 nats, ! up to 1", abs, 0.1, 1.0),
    "reverse_kl": Scale("✓ up to 0.1 nats, ! up to 1", abs, 0.1, 1.0),
    "missed_mass": Scale("✓ up to 2 % (1 % is perfect), ! up to 5 %", abs, 0.02, 0.05),
    "invented_mass": Scale("✓ up to 2 % (1 % is perfect), ! up to 5 %", abs, 0.02, 0.05),
    "coverage": Scale("✓ within 2 points of 90 %, ! within 5", _off(0.9), 0.02, 0.05),
    "width_ratio": Scale("✓ within 10 %, ! within 25 %", _fold, 1.1, 1.25),
    "tail_mass": Scale("✓ within a factor of 1.5, ! within 2", _fold, 1.5, 2.0),
    "sd_ratio": Scale("✓ within 5 %, ! within 25 %", _fold, 1.05, 1.25),
    "mean_shift": Scale("✓ within 0.1 sd, ! within 0.3", abs, 0.1, 0.3),
    "total_variation": Scale("✓ up to 0.1, ! up to 0.3", abs, 0.1, 0.3),
    "mode_coverage": Scale("✓ from a tenth of a mode's share", lambda v: 1 - v, 0.9, 0.9),
    "khat": Scale("✓ up to 0.5, ! up to 0.7", lambda k: k, 0.5, 0.7),
}
