"""The missed mass that the fit's scale alone would explain."""

from vi_compare.evidence import Estimate, Evidence
from vi_compare.metrics._scale import missed, of_scale_alone


def measure(evidence: Evidence) -> dict[str, Estimate]:
    """Missed mass of a Gaussian of as many dimensions whose scale alone is off as the fit's."""
    return of_scale_alone(evidence, missed)
