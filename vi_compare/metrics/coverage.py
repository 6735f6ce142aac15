"""What the fit's 90 % intervals really hold."""

import numpy as np

from vi_compare.evidence import ALL, NO_REFERENCE, Draws, Estimate, Evidence, margins, worst
from vi_compare.tails import quantile_band

LEVEL = 0.9


def measure(evidence: Evidence) -> dict[str, Estimate]:
    """Share of target draws inside the fit's central 90 % interval, per margin."""
    if evidence.test is None:
        return {ALL: Estimate.missing(NO_REFERENCE)}
    p, q = margins(evidence.test.values), margins(evidence.q.values)
    by = {label: _held(q[label], p[label], evidence.q, evidence.test) for label in p}
    return worst(by, lambda share: abs(share - LEVEL))


def _held(q: np.ndarray, p: np.ndarray, fit: Draws, test: Draws) -> Estimate:
    (low_0, low, low_1), (high_0, high, high_1) = (
        quantile_band(q, level, fit) for level in ((1 - LEVEL) / 2, (1 + LEVEL) / 2)
    )
    inside = (p > low) & (p < high)
    share = Estimate.share(inside, floor=LEVEL, effective=test.effective(inside))
    ends = [np.mean((p > a) & (p < b)) / 2 for a, b in ((low_0, low_1), (high_0, high_1))]
    error = float(np.linalg.norm([share.standard_error or 0.0, *ends]))
    return Estimate(share.value, error, "1", p.size, LEVEL)
