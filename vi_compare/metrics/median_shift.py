"""Errors of the marginal medians: mean shifts that heavy tails cannot break."""

import numpy as np

from vi_compare.estimate import worst_few
from vi_compare.evidence import ALL, NO_REFERENCE, About, Estimate, Evidence, MetricKind
from vi_compare.metrics._quantiles import ENDS, quantiles_with_errors

ABOUT = About(
    name="median shift",
    meaning=(
        "(median of q − median of p) ÷ 5-95 % width of p, per margin; the headline is the largest."
    ),
    kind=MetricKind.SIGNED,
    perfect=0.0,
)


def measure(evidence: Evidence) -> dict[str, Estimate]:
    test, floor = evidence.test, evidence.floor
    if test is None or floor is None:
        return {ALL: Estimate.missing(NO_REFERENCE)}
    q, p, again = evidence.margins
    width = {label: float(np.diff(np.quantile(p[label], ENDS))[0]) for label in p}
    off = lambda who, label: float(np.median(who[label]) - np.median(p[label])) / width[label]
    values = {label: off(q, label) for label in p if width[label] > 0}

    def estimate(label: str) -> Estimate:
        of = lambda x, draws: quantiles_with_errors(x, [0.5], draws)[1].item()
        error = np.hypot(of(q[label], evidence.q), of(p[label], test))
        return Estimate(
            values[label],
            float(error) / width[label],
            "1",
            q[label].size,
            abs(off(again, label)),
        )

    return worst_few(values, ABOUT.badness, estimate)
