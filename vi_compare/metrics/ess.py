"""Effective sample size of the importance weights p/q."""

import numpy as np

from vi_compare.evidence import ALL, About, Bound, Estimate, Evidence, MetricKind
from vi_compare.psis import too_heavy_to_average

ABOUT = About(
    name="ESS",
    meaning="(Σw)²/(nΣw²) for w = p/q on draws of q, a share of n; blind to what q never visits.",
    kind=MetricKind.LARGER,
    perfect=1.0,
    percent=True,
    heading="ESS",
    below="share of draws",
)


def measure(evidence: Evidence) -> dict[str, Estimate]:
    log_w, reason = evidence.q.log_ratio()
    if log_w is None:
        return {ALL: Estimate.missing(reason)}
    w = np.exp(log_w - log_w.max())
    first, second = w.mean(), (w**2).mean()
    share = first**2 / second
    # Delta method on the two means.
    slope = share * (2 * w / first - w**2 / second - 1)
    error = float(slope.std(ddof=1) / np.sqrt(w.size))
    # A heavier draw that is yet to come makes the others count for less.
    bound: Bound = "most" if too_heavy_to_average(w**2) else ""
    return {ALL: Estimate(float(share), error, "1", w.size, bound=bound)}
