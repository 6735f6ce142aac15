"""Which modes of the target the fit has, by basin mass."""

import numpy as np

from vi_compare.evidence import ALL, About, Estimate, Evidence, Kind, worst
from vi_compare.metrics._modes import LEAST_MASS

ABOUT = About(
    name="mode coverage",
    meaning="Mass of each basin under the fit ÷ under the target, for basins of at least 1 %.",
    kind=Kind.LARGER,
    perfect=1.0,
    good=0.1,  # a mode is covered from a tenth of its share
    near=0.1,
    percent=True,
    heading="Modes",
    below="covered",
    counts_from=LEAST_MASS,
)


def measure(evidence: Evidence) -> dict[str, Estimate]:
    modes = evidence.modes
    if modes is None:
        return {ALL: Estimate.missing(evidence.modes_reason)}
    by = {}
    columns = (modes.names, modes.target, modes.fit, modes.target_n)
    for name, p, q, n in zip(*columns, strict=True):
        if p < ABOUT.counts_from:
            continue
        # Ratio of two proportions; smoothed so that a count of 0 still has an error.
        smoothed = (q * modes.n + 2) / (modes.n + 4)
        variance = smoothed * (1 - smoothed) / modes.n / p**2 + q**2 * (1 - p) / n / p**3
        by[name] = Estimate(float(q / p), float(np.sqrt(variance)), "1", modes.n, 1.0)
    return worst(by, ABOUT.badness)
