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
from vi_compare.metrics._quantiles import quantile_bands

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
    """Its error is relative, as that of a ratio: the fit's share is that of a binomial, and the
    target's quantile is uncertain by one standard error of its rank either way. Two draws more
    stand in where the fit has none; and an empty tail is as uncertain as the half-empty one that it
    has to be told from."""
    low, edge, high = quantile_bands(p, [level], test)[0]
    n = min(q.size, int(test.effective(p < edge)))
    hits = lambda x: int(np.count_nonzero(q < x))
    moved = np.log((hits(high) + 2) / (hits(low) + 2)) / 2
    draws = fit.effective(q < edge) * (hits(edge) + 2) / q.size
    value, least = hits(edge) / (q.size * level), 2 / (q.size * level)
    error = max(value, least) * float(np.hypot(1 / np.sqrt(draws), moved))
    half_empty = float(np.sqrt(level / 2 / q.size)) / level
    return Estimate(value, max(error, half_empty), "1", n, 1.0)
