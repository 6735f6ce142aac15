"""Mass of the fit beyond the target's extreme quantiles, each side by itself.

Added up, an empty tail and a heavy one would look like two good ones.
"""

import numpy as np

from vi_compare.evidence import ALL, NO_REFERENCE, Draws, Estimate, Evidence, margins, worst
from vi_compare.metrics._quantiles import share_below_quantile

LEVEL = 0.005
SIDES = {"lower": 1, "upper": -1}


def measure(evidence: Evidence) -> dict[str, Estimate]:
    """Share of q beyond p's 0.5 % (99.5 %) quantile ÷ 0.5 %, per margin and side; 1 is perfect."""
    if evidence.test is None:
        return {ALL: Estimate.missing(NO_REFERENCE)}
    p, q = margins(evidence.test.values), margins(evidence.q.values)
    by = {
        f"the {side} tail of {label}": _ratio(
            sign * q[label], sign * p[label], evidence.q, evidence.test
        )
        for label in p
        for side, sign in SIDES.items()
    }
    # An empty tail is as bad as one 50 times too heavy, not infinitely worse.
    return worst(by, lambda ratio: abs(np.log(max(ratio, 0.02))))


def _ratio(q: np.ndarray, p: np.ndarray, fit: Draws, test: Draws) -> Estimate:
    share = share_below_quantile(q, p, LEVEL, fit, test)
    # An empty tail is as uncertain as the half-empty one that it has to be told from.
    least = np.sqrt(LEVEL / 2 / q.size)
    value, error = share.value or 0.0, max(share.standard_error or 0.0, least)
    # The quantile is as uncertain as the share, and the fewer draws decide.
    return Estimate(value / LEVEL, float(error) / LEVEL, "1", min(q.size, p.size), 1.0)
