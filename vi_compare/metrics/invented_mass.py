"""How much of the fit lies where the target has almost nothing."""

from vi_compare.evidence import ALL, NO_REFERENCE, About, Estimate, Evidence, Kind
from vi_compare.metrics._quantiles import LEVEL, share_below_quantile

ABOUT = About(
    name="invented mass",
    meaning=(
        "Mass of the fit where the target has almost nothing: log p below its 1 % quantile; 1 "
        "% is perfect."
    ),
    kind=Kind.SMALLER,
    perfect=LEVEL,
    good=0.02,
    near=0.05,
    percent=True,
    heading="Invented",
    below="mass",
)


def measure(evidence: Evidence) -> dict[str, Estimate]:
    test, q = evidence.test, evidence.q
    if test is None:
        return {ALL: Estimate.missing(NO_REFERENCE)}
    if test.log_p is None or q.log_p is None:
        return {ALL: Estimate.missing(test.reason or q.reason)}
    return {ALL: share_below_quantile(q.log_p, test.log_p, LEVEL, q, test)}
