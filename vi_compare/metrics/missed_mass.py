"""How much of the target lies where the fit has almost nothing."""

from vi_compare.evidence import ALL, NO_REFERENCE, About, Estimate, Evidence, Kind
from vi_compare.metrics._quantiles import LEVEL, share_below_quantile

ABOUT = About(
    name="missed mass",
    meaning=(
        "Target mass where the fit has almost nothing: log q below "
        "its 1 % quantile; 1 % is perfect."
    ),
    kind=Kind.SMALLER,
    perfect=LEVEL,
    good=0.02,
    near=0.05,
    percent=True,
    heading="Missed",
    below="mass",
)


def measure(evidence: Evidence) -> dict[str, Estimate]:
    test, q = evidence.test, evidence.q
    if test is None:
        return {ALL: Estimate.missing(NO_REFERENCE)}
    if test.log_q is None or q.log_q is None:
        return {ALL: Estimate.missing(test.reason or q.reason)}
    return {ALL: share_below_quantile(test.log_q, q.log_q, LEVEL, test, q)}
