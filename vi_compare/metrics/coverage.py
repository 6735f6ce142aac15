"""What the fit's 90 % intervals really hold."""

from vi_compare.evidence import ALL, NO_REFERENCE, Estimate, Evidence, margins, worst
from vi_compare.metrics._quantiles import share_inside

LEVEL = 0.9


def measure(evidence: Evidence) -> dict[str, Estimate]:
    """Share of target draws inside the fit's central 90 % interval, per margin."""
    fit, test = evidence.q, evidence.test
    if test is None:
        return {ALL: Estimate.missing(NO_REFERENCE)}
    p, q = margins(test.values), margins(fit.values)
    by = {label: share_inside(q[label], p[label], LEVEL, fit, test) for label in p}
    return worst(by, lambda share: abs(share - LEVEL))
