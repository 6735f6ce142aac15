"""The invented mass that the fit's scale alone would explain."""

from vi_compare.evidence import About, Estimate, Evidence, Kind
from vi_compare.metrics._quantiles import LEVEL
from vi_compare.metrics._scale import missed, of_scale_alone

ABOUT = About(
    name="invented by scale",
    meaning=(
        "Invented mass of a Gaussian of as many dimensions whose scale alone is off as the fit's."
    ),
    kind=Kind.SMALLER,
    perfect=LEVEL,
    percent=True,
)


def measure(evidence: Evidence) -> dict[str, Estimate]:
    # Seen from the fit, the target is what has the wrong scale.
    return of_scale_alone(evidence, lambda scale, d: missed(1 / scale, d))
