"""A metric: the energy distance of the worst margin.

A metric looks at the Evidence of one fit and nothing else: draws of q, draws of the target that
no fit has seen (`test`), and a second set of them (`floor`).
"""

from __future__ import annotations

import numpy as np
from scipy import stats

from vi_compare.evidence import (
    ALL,
    NO_REFERENCE,
    About,
    Estimate,
    Evidence,
    MetricKind,
    worst,
)

# The metric described once: headings, marks, sort order and the words on the page, on the
# terminal and in `vi-compare diff` are taken from here, and from nowhere else.
ABOUT = About(
    name="energy distance",
    meaning="√(2E|X − Y| − E|X − X'| − E|Y − Y'|), worst margin, in sd of the target.",
    kind=MetricKind.SMALLER,
    unit="sd",  # or "nats", "count", "1" for shares and ratios
    good=0.1,
    near=0.3,
    heading="Energy",
    below="÷ sd",
)


def measure(evidence: Evidence) -> dict[str, Estimate]:
    """Energy distance (Székely and Rizzo 2013) of every margin; the largest is the headline."""
    if evidence.test is None or evidence.floor is None:
        # What does not exist is missing with a reason, never 0 or NaN.
        return {ALL: Estimate.missing(NO_REFERENCE, "sd")}
    q, p, again = evidence.margins  # {label: (n,)} of every entry that varies
    by = {label: _distance(q[label], p[label], again[label]) for label in p}
    return worst(by, abs)


def _distance(q: np.ndarray, p: np.ndarray, again: np.ndarray, blocks: int = 20) -> Estimate:
    """Distance between draws (n,), its standard error from the spread over blocks of them, and
    its floor: how far apart two sets of draws of the target are."""
    sd = p.std(ddof=1)

    def apart(x, y):
        pairs = zip(np.array_split(x, blocks), np.array_split(y, blocks), strict=True)
        return np.array([stats.energy_distance(a / sd, b / sd) for a, b in pairs])

    # A distance between samples is never 0. Blocks of one size share that bias with the floor.
    found = apart(q, p)
    error = float(found.std(ddof=1) / np.sqrt(blocks))
    return Estimate(float(found.mean()), error, "sd", len(p), float(apart(again, p).mean()))
