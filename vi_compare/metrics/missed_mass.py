"""How much of the target lies where the fit has almost nothing."""

from vi_compare.evidence import ALL, NO_REFERENCE, Estimate, Evidence
from vi_compare.metrics._quantiles import LEVEL, share_below_quantile


def measure(evidence: Evidence) -> dict[str, Estimate]:
    """Share of target draws where log q is below q's own 1 % quantile; 1 % is perfect."""
    test, q = evidence.test, evidence.q
    if test is None:
        return {ALL: Estimate.missing(NO_REFERENCE)}
    if test.log_q is None or q.log_q is None:
        return {ALL: Estimate.missing(test.reason or q.reason)}
    return {ALL: share_below_quantile(test.log_q, q.log_q, LEVEL, test, q)}
