"""Errors of the marginal means that are left after reweighting."""

import numpy as np

from vi_compare.estimate import worst_few
from vi_compare.evidence import ALL, NO_REFERENCE, About, Estimate, Evidence, MetricKind

ABOUT = About(
    name="corrected mean shift",
    meaning="(mean of q by smoothed weights p/q − mean of p) ÷ sd of p, per margin; the largest.",
    kind=MetricKind.SIGNED,
    unit="sd",
    perfect=0.0,
)


def measure(evidence: Evidence) -> dict[str, Estimate]:
    test, floor = evidence.test, evidence.floor
    if test is None or floor is None:
        return {ALL: Estimate.missing(NO_REFERENCE, "sd")}
    weights, reason = evidence.q.usable_weights()
    if weights is None:
        return {ALL: Estimate.missing(reason, "sd")}
    q, p, again = evidence.margins
    values = {x: (weights @ q[x] - p[x].mean()) / p[x].std(ddof=1) for x in p}

    def estimate(label: str) -> Estimate:
        of_p, sd = p[label], p[label].std(ddof=1)
        # Of a self-normalised mean (Owen 2013, section 9.2).
        variance = weights**2 @ (q[label] - weights @ q[label]) ** 2
        error = np.sqrt(variance / sd**2 + 1 / test.effective(of_p))
        floor = abs(again[label].mean() - of_p.mean()) / sd
        return Estimate(float(values[label]), float(error), "sd", weights.size, float(floor))

    return worst_few(values, ABOUT.badness, estimate)
