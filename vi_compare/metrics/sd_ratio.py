"""Ratios of the marginal standard deviations."""

from vi_compare.evidence import ALL, NO_REFERENCE, About, Estimate, Evidence, MetricKind, worst
from vi_compare.metrics._spread import ratio

ABOUT = About(
    name="sd ratio",
    meaning="sd of the fit ÷ sd of the target, worst margin.",
    kind=MetricKind.RATIO,
    perfect=1.0,
    good=1.05,
    near=1.25,
    heading="sd",
    below="ratio",
)


def measure(evidence: Evidence) -> dict[str, Estimate]:
    """Where the target's sd does not exist, 16-84 % ranges take the place of both."""
    fit, test = evidence.q, evidence.test
    if test is None:
        return {ALL: Estimate.missing(NO_REFERENCE)}
    q, p, _ = evidence.margins
    return worst({label: ratio(q[label], p[label], fit, test) for label in p}, ABOUT.badness)
