"""Sliced Wasserstein distance: W₁ of the joint distribution, seen from many sides."""

import numpy as np

from vi_compare.estimate import NO_MARGIN
from vi_compare.evidence import (
    ALL,
    NO_REFERENCE,
    About,
    Draws,
    Estimate,
    Evidence,
    MetricKind,
    effective,
)
from vi_compare.metrics._empirical import Gap, evenly

ABOUT = About(
    name="sliced W₁",
    meaning="W₁ of u projected on 100 fixed random directions, on average; u in sd of p.",
    kind=MetricKind.SMALLER,
    unit="sd",
    perfect=0.0,
)


def measure(evidence: Evidence, most: int = 4000, directions: int = 100) -> dict[str, Estimate]:
    """`most`: draws of each side, which are sorted once a direction; `directions`: of u."""
    test, q, floor = evidence.test, evidence.q, evidence.floor
    if test is None or floor is None:
        return {ALL: Estimate.missing(NO_REFERENCE, "sd")}
    x = _few(test, most)
    sd = x.std(axis=0)
    if not sd.any():
        return {ALL: Estimate.missing(NO_MARGIN, "sd")}
    scaled = _directions(directions, x.shape[1]) / np.where(sd > 0, sd, 1.0)
    p, fit, again = (u @ scaled.T for u in (x, _few(q, most), _few(floor, most)))
    gaps = [Gap.between(a, b) for a, b in zip(p.T, fit.T, strict=True)]
    # One potential for all directions: a draw that is off is off in many of them.
    of_p, of_q = (
        np.mean(side, axis=0) for side in zip(*(g.potential() for g in gaps), strict=True)
    )
    variance = of_p.var() / effective(of_p, test.chains) + of_q.var() / effective(of_q, q.chains)
    value = np.mean([g.wasserstein() for g in gaps])
    least = np.mean([Gap.between(a, b).wasserstein() for a, b in zip(p.T, again.T, strict=True)])
    return {ALL: Estimate(float(value), float(np.sqrt(variance)), "sd", len(fit), float(least))}


def _few(draws: Draws, most: int) -> np.ndarray:
    """(n, d)"""
    return np.asarray(draws.u)[evenly(draws, most)]


def _directions(k: int, dim: int) -> np.ndarray:
    """(k, d), of length 1; the same for every fit. The line has only one."""
    if dim == 1:
        return np.ones((1, 1))
    normal = np.random.default_rng(0).normal(size=(k, dim))
    return normal / np.linalg.norm(normal, axis=1, keepdims=True)
