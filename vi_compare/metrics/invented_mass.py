"""How much of the fit lies where the target has almost nothing."""

from vi_compare.evidence import ALL, NO_REFERENCE, Estimate, Evidence
from vi_compare.metrics._quantiles import LEVEL, share_below_quantile


def measure(evidence: Evidence) -> dict[str, Estimate]:
    """Share of the fit's draws where log p is below p's own 1 % quantile; 1 % is perfect."""
    test, q = evidence.test, evidence.q
    if test is None:
        return {ALL: Estimate.missing(NO_REFERENCE)}
    if test.log_p is None or q.log_p is None:
        return {ALL: Estimate.missing(test.reason or q.reason)}
    return {ALL: share_below_quantile(q.log_p, test.log_p, LEVEL, q, test)}
