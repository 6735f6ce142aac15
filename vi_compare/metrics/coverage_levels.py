"""What the fit's intervals really hold, from narrow ones to wide ones."""

import numpy as np

from vi_compare.evidence import ALL, NO_REFERENCE, Draws, Estimate, Evidence, margins
from vi_compare.tails import quantile_band

LEVELS = (0.5, 0.8, 0.9, 0.95)


def measure(evidence: Evidence) -> dict[str, Estimate]:
    """Share of target draws inside the fit's central 50, 80, 90, 95 % intervals, worst margin."""
    test = evidence.test
    if test is None:
        return {ALL: Estimate.missing(NO_REFERENCE)}
    p, q = margins(test.values), margins(evidence.q.values)
    held = {label: _held(q[label], p[label]) for label in p}  # (levels,) each
    by = {}
    for i, level in enumerate(LEVELS):
        label = max(held, key=lambda x: abs(held[x][i] - level))
        by[f"{level:.0%}".replace("%", " %")] = _estimate(
            q[label], p[label], level, evidence.q, test, len(p)
        )
    return {ALL: max(by.values(), key=_off), **by}


def _off(share: Estimate) -> float:
    """In standard errors: a point is more at 95 % than at 50 %."""
    return abs((share.value or 0.0) - (share.floor or 0.0)) / (share.standard_error or 1.0)


def _ends(level: float) -> tuple[float, float]:
    return (1 - level) / 2, (1 + level) / 2


def _held(q: np.ndarray, p: np.ndarray) -> np.ndarray:
    """Shares of p inside the intervals of q (levels,), all from two sorts."""
    ends = np.quantile(np.sort(q), np.array([_ends(level) for level in LEVELS]))
    low, high = ends[:, 0], ends[:, 1]
    ordered = np.sort(p)
    inside = np.searchsorted(ordered, high) - np.searchsorted(ordered, low, side="right")
    return inside / p.size


def _estimate(
    q: np.ndarray, p: np.ndarray, level: float, fit: Draws, test: Draws, count: int
) -> Estimate:
    bands = [quantile_band(q, end, fit) for end in _ends(level)]
    inside = (p > bands[0][1]) & (p < bands[1][1])
    share = Estimate.share(inside, floor=level, effective=test.effective(inside))
    # Each end of the interval is uncertain by a standard error of its rank either way.
    moved = [np.mean((p > low) & (p < high)) / 2 for low, _, high in bands]
    error = float(np.linalg.norm([share.standard_error or 0.0, *moved]))
    return Estimate(share.value, error, "1", p.size, level, worst_of=count)
