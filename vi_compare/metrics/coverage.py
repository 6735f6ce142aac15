"""What the fit's 90 % intervals really hold."""

from vi_compare.evidence import (
    ALL,
    NO_REFERENCE,
    About,
    Estimate,
    Evidence,
    MetricKind,
    worst,
)
from vi_compare.metrics._quantiles import share_inside

ABOUT = About(
    name="coverage",
    meaning="Target mass inside the fit's central 90 % interval, worst margin.",
    kind=MetricKind.SIGNED,
    perfect=0.9,
    good=0.02,
    near=0.05,
    percent=True,
    heading="90 % interval",
    below="holds",
)


def measure(evidence: Evidence) -> dict[str, Estimate]:
    fit, test = evidence.q, evidence.test
    if test is None:
        return {ALL: Estimate.missing(NO_REFERENCE)}
    q, p, _ = evidence.margins
    level = ABOUT.perfect or 0.0
    by = {label: share_inside(q[label], p[label], level, fit, test) for label in p}
    return worst(by, ABOUT.badness)
