"""Means under the mixture m = (p + q)/2 of a bounded function of r = log p − log q.

Half the draws of each side estimate them with finite variance, whatever the tails do.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from vi_compare.evidence import NO_REFERENCE, Draws, Estimate, Evidence

Function = Callable[[np.ndarray], np.ndarray]


def under_mixture(evidence: Evidence, function: Function, unit: str = "1") -> Estimate:
    """½ E_p[f(r)] + ½ E_q[f(r)]; an error of log Z moves every r at once, and is carried along."""
    test, q, log_z = evidence.test, evidence.q, evidence.log_z
    if test is None:
        return Estimate.missing(NO_REFERENCE, unit)
    for draws in (test, q):
        if draws.log_p is None or draws.log_q is None:
            return Estimate.missing(draws.reason, unit)
        if bad := int(np.isnan(_ratio(draws, 0.0)).sum()):
            return Estimate.missing(f"{bad} of {len(draws)} draws have no density", unit)
    if log_z.value is None:
        return Estimate.missing(log_z.reason, unit)
    # Where a density is zero the ratio is infinite, which is a ratio like any other.
    # Beyond 700 nats it is beyond float64 once exponentiated.
    halves = lambda draws, shift=0.0: (
        0.5 * function(np.clip(_ratio(draws, log_z.value + shift), -700.0, 700.0))
    )
    under_p = halves(test)
    found = Estimate.mean(
        under_p, unit, plus=Estimate.mean(halves(q), unit), effective=test.effective(under_p)
    )
    if found.value is None or not log_z.standard_error:
        return found
    low, high = (
        halves(test, shift).mean() + halves(q, shift).mean()
        for shift in (-log_z.standard_error, log_z.standard_error)
    )
    error = float(np.hypot(found.standard_error or 0.0, (high - low) / 2))
    return replace(found, standard_error=error)


def _ratio(draws: Draws, log_z: float) -> np.ndarray:
    """log p − log q (n,), 0 where it is by rounding alone that it is not."""
    found = np.asarray(draws.log_w) - log_z
    return np.where(np.abs(found) <= draws.rounding, 0.0, found)
