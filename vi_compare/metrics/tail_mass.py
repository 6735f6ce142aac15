"""Mass of the fit beyond the target's extreme quantiles."""

import numpy as np

from vi_compare.evidence import ALL, NO_REFERENCE, Estimate, Evidence, margins, worst
from vi_compare.tails import quantile_band

LEVELS = (0.005, 0.995)


def measure(evidence: Evidence) -> dict[str, Estimate]:
    """Share of q beyond p's 0.5 % and 99.5 % quantiles ÷ 1 %, per margin; 1 is perfect."""
    if evidence.test is None:
        return {ALL: Estimate.missing(NO_REFERENCE)}
    p, q = margins(evidence.test.values), margins(evidence.q.values)
    by = {label: _ratio(q[label], p[label]) for label in p}
    return worst(by, lambda ratio: abs(np.log(max(ratio, 1e-2))))


def _ratio(q: np.ndarray, p: np.ndarray) -> Estimate:
    low, high = (quantile_band(p, level) for level in LEVELS)
    share = Estimate.share((q < low[1]) | (q > high[1]))
    moved = np.hypot(
        (np.mean(q < low[2]) - np.mean(q < low[0])) / 2,
        (np.mean(q > high[0]) - np.mean(q > high[2])) / 2,
    )
    error = float(np.hypot(share.standard_error or 0.0, moved))
    return Estimate(float(share.value or 0.0) / 0.01, error / 0.01, "1", q.size, 1.0)
