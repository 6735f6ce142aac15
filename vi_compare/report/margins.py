"""Which margins a page shows first."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from vi_compare.report.view import FitView


def worst_first(fits: Sequence[FitView], labels: Sequence[str]) -> list[str]:
    """The same labels, those where some fit is furthest off first."""
    return sorted(labels, key=lambda label: -badness(fits, label))


def badness(fits: Sequence[FitView], label: str) -> float:
    """How far off the worst fit is here: in mean ÷ sd, and in sd on a log scale."""
    off = [0.0]
    for fit in fits:
        shift, ratio = fit.reading("mean_shift", label).value, fit.reading("sd_ratio", label).value
        off += [abs(shift)] if shift is not None else []
        off += [abs(float(np.log(max(ratio, 1e-3))))] if ratio is not None else []
    return max(off)
