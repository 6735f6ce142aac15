"""The missed mass that the fit's scale alone would explain."""

from vi_compare.evidence import About, Estimate, Evidence, Kind
from vi_compare.metrics._quantiles import LEVEL
from vi_compare.metrics._scale import missed, of_scale_alone

ABOUT = About(
    name="missed by scale",
    meaning=(
        "Missed mass of a Gaussian of as many dimensions whose scale alone is off as the fit's."
    ),
    kind=Kind.SMALLER,
    perfect=LEVEL,
    percent=True,
)


def measure(evidence: Evidence) -> dict[str, Estimate]:
    return of_scale_alone(evidence, missed)
