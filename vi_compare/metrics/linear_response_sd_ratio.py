"""Ratios of the marginal standard deviations after correction by linear response."""

import numpy as np

from vi_compare.evidence import ALL, NO_REFERENCE, About, Draws, Estimate, Evidence, MetricKind
from vi_compare.evidence import worst as headline
from vi_compare.metrics._quantiles import has_variance
from vi_compare.metrics._spread import sd

ABOUT = About(
    name="linear-response sd ratio",
    meaning="sd of a mean-field fit corrected by linear response ÷ sd of the target, worst margin.",
    kind=MetricKind.RATIO,
    perfect=1.0,
)


def measure(evidence: Evidence) -> dict[str, Estimate]:
    test, response = evidence.test, evidence.response
    if test is None:
        return {ALL: Estimate.missing(NO_REFERENCE)}
    if response.reason:
        return {ALL: Estimate.missing(response.reason)}
    of_p = evidence.margins.p
    by = {x: _ratio(response.sds[x], of_p[x], test) for x in of_p}
    return headline(by, ABOUT.badness)


def _ratio(corrected: Estimate, p: np.ndarray, test: Draws) -> Estimate:
    """Corrected sd ÷ sd of p (n,), draws of `test`."""
    if corrected.value is None:
        return corrected
    if not has_variance(p):
        return Estimate.missing("the target has no standard deviation")
    bottom, error = sd(p, test)
    ratio, own = corrected.value / bottom, (corrected.standard_error or 0.0) / corrected.value
    return Estimate(ratio, float(ratio * np.hypot(own, error)), "1", p.size, 1.0)
