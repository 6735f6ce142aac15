"""What a wrong scale and nothing else would do to missed and invented mass.

In many dimensions a small one is enough: draws of a Gaussian lie in a thin shell.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy.stats import chi2

from vi_compare.evidence import ALL, NO_REFERENCE, Estimate, Evidence
from vi_compare.metrics._quantiles import LEVEL, middle


def of_scale_alone(evidence: Evidence, mass: Callable[[float, int], float]) -> dict[str, Estimate]:
    """``mass(s, d)`` for the fit's scale s over u: the geometric mean over its d coordinates
    of the ratios of 16-84 % ranges, as if their errors were one and the same."""
    test, q = evidence.test, evidence.q
    if test is None:
        return {ALL: Estimate.missing(NO_REFERENCE)}
    (top, top_error), (bottom, bottom_error) = (_spreads(draws) for draws in (q, test))
    if not (top > 0).all() or not (bottom > 0).all():
        return {ALL: Estimate.missing("a coordinate does not vary")}
    size = float(np.log(top / bottom).mean())
    error = float(np.hypot(top_error / top, bottom_error / bottom).mean())
    value, low, high = (mass(float(np.exp(size + e)), top.size) for e in (0.0, -error, error))
    return {ALL: Estimate(value, abs(high - low) / 2, "1", len(q), LEVEL)}


def missed(scale: float, d: int) -> float:
    """P(log q below its 1 % quantile) under p = N(0, I), for q = N(0, s² I) in d dimensions."""
    return float(chi2.sf(scale**2 * chi2.isf(LEVEL, d), d))


def _spreads(draws) -> tuple[np.ndarray, np.ndarray]:
    """Half the 16-84 % range of every coordinate of u (d,), and its standard errors (d,)."""
    u = np.asarray(draws.u)
    both = [middle(u[:, i], draws)[2:] for i in range(u.shape[1])]
    half, error = np.transpose(both)
    return half, error
