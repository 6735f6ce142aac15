"""Mass of the fit beyond the target's extreme quantiles, each side by itself.

Added up, an empty tail and a heavy one would look like two good ones.
"""

import numpy as np

from vi_compare.evidence import (
    ALL,
    NO_REFERENCE,
    About,
    Draws,
    Estimate,
    Evidence,
    MetricKind,
    worst,
)
from vi_compare.metrics._quantiles import share_below_quantile

ABOUT = About(
    name="tail mass",
    meaning=(
        "Mass of the fit beyond the target's 0.5 % or 99.5 % quantile ÷ 0.5 %, the worst tail; "
        "1 is perfect."
    ),
    kind=MetricKind.RATIO,
    perfect=1.0,
    good=1.5,
    near=2.0,
    heading="Tail",
    below="÷ target",
    least=0.02,  # an empty tail is as bad as one 50 times too heavy
)


def measure(evidence: Evidence) -> dict[str, Estimate]:
    if evidence.test is None:
        return {ALL: Estimate.missing(NO_REFERENCE)}
    q, p, _ = evidence.margins
    by = {
        f"the {side} tail of {label}": _ratio(
            sign * q[label], sign * p[label], evidence.q, evidence.test
        )
        for label in p
        for side, sign in (("lower", 1), ("upper", -1))
    }
    return worst(by, ABOUT.badness)


def _ratio(q: np.ndarray, p: np.ndarray, fit: Draws, test: Draws, level: float = 0.005) -> Estimate:
    share = share_below_quantile(q, p, level, fit, test)
    # An empty tail is as uncertain as the half-empty one that it has to be told from.
    least = np.sqrt(level / 2 / q.size)
    value, error = share.value or 0.0, max(share.standard_error or 0.0, least)
    # The quantile is as uncertain as the share, and the fewer draws decide: of chains that stay
    # in a tail for long, the number of independent visits.
    n = min(q.size, int(test.effective(p < np.quantile(p, level))))
    return Estimate(value / level, float(error) / level, "1", n, 1.0)
