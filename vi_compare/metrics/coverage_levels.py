"""What the fit's intervals really hold, from narrow ones to wide ones."""

from dataclasses import replace

import numpy as np

from vi_compare.estimate import NO_MARGIN
from vi_compare.evidence import ALL, NO_REFERENCE, About, Estimate, Evidence, MetricKind
from vi_compare.metrics._quantiles import central, share_inside

ABOUT = About(
    name="coverage levels",
    meaning=(
        "Target mass inside the fit's central 50, 80, 90, 95 % intervals, worst margin of each."
    ),
    kind=MetricKind.SIGNED,
    percent=True,
)


def measure(evidence: Evidence) -> dict[str, Estimate]:
    test = evidence.test
    if test is None:
        return {ALL: Estimate.missing(NO_REFERENCE)}
    q, p, _ = evidence.margins
    levels = (0.5, 0.8, 0.9, 0.95)
    held = {label: _held(q[label], p[label], levels) for label in p}  # (levels,) each
    if not held:
        return {ALL: Estimate.missing(NO_MARGIN)}
    by = {}
    for i, level in enumerate(levels):
        label = max(held, key=lambda x: abs(held[x][i] - level))
        share = share_inside(q[label], p[label], level, evidence.q, test)
        by[f"{level:.0%}".replace("%", " %")] = replace(share, worst_of=len(p))
    return {ALL: max(by.values(), key=_off), **by}


def _off(share: Estimate) -> float:
    """In standard errors: a point is more at 95 % than at 50 %."""
    return abs((share.value or 0.0) - (share.floor or 0.0)) / (share.standard_error or 1.0)


def _held(q: np.ndarray, p: np.ndarray, levels: tuple[float, ...]) -> np.ndarray:
    """Shares of p inside the intervals of q (levels,), all from two sorts."""
    ends = np.quantile(np.sort(q), np.array([central(level) for level in levels]))
    low, high = ends[:, 0], ends[:, 1]
    ordered = np.sort(p)
    inside = np.searchsorted(ordered, high) - np.searchsorted(ordered, low, side="right")
    return inside / p.size
