"""Whether observations look like what is predicted of them, each left out in turn.

Continuous outcomes, counts and ordered categories by the probability integral transform,
randomised where values tie (Czado, Gneiting & Held 2009), and ArviZ's test of uniformity, which
allows for transforms that share their draws. Binary ones by the calibration of their probability:
the miscalibration of isotonic regression (Dimitriadis, Gneiting & Jordan 2021) against that of
outcomes drawn with the probabilities predicted.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.optimize import isotonic_regression

from vi_compare.predictions.loo import LeftOut
from vi_compare.predictions.observed import Outcomes, Pointwise


@dataclass(frozen=True, eq=False)
class Check:
    """Of one site.

    Attributes:
        p_value: of the hypothesis that observations are as predicted; None where not made.
        below, above: shares of the observations that rank in the lowest and in the highest 5 % of
            what is predicted; None for binary outcomes.
        ranks: (n,) probability integral transform of the observations, None where not made.
        reason: why the check is not made.
    """

    p_value: float | None
    below: float | None = None
    above: float | None = None
    ranks: np.ndarray | None = None
    reason: str = ""


def check(at: Pointwise, left: LeftOut, rng: np.random.Generator) -> Check:
    """Of a site's observations against what is predicted of them."""
    site = left.site
    if site.judged:
        return Check(None, reason=site.judged)
    if site.outcomes == Outcomes.VECTOR:
        return Check(None, reason="its observations are vectors, which do not rank")
    if site.outcomes == Outcomes.BINARY:
        chance = np.exp(left.elpd)
        return Check(miscalibrated(np.where(site.values, chance, 1 - chance), site.values, rng))
    if at.replicates is None:
        return Check(None, reason=site.drawn)
    from arviz_stats.base import array_stats

    ranks = transform(site.values, at.replicates, left.log_weights, rng)
    below, above = (float(x.mean()) for x in (ranks < 0.05, ranks > 0.95))
    return Check(float(array_stats.uniformity_test(ranks)[0]), below, above, ranks)


def transform(
    y: np.ndarray, replicates: np.ndarray, log_weights: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """Probability integral transform (n,) of observations y (n,) among replicates (draws, n) with
    weights (n, draws): uniform where both come from one distribution."""
    weights, s = np.exp(log_weights), len(replicates)
    lower = (weights * (replicates < y).T).sum(axis=1)
    equal = (weights * (replicates == y).T).sum(axis=1)
    # The observation is one of s + 1 that might have been it, so no rank is 0 or 1.
    return (s * lower + rng.uniform(size=len(y)) * (s * equal + 1)) / (s + 1)


def miscalibrated(
    chance: np.ndarray, y: np.ndarray, rng: np.random.Generator, repeats: int = 999
) -> float:
    """p-value of outcomes y (n,) of 0 and 1 against their predicted chances (n,)."""
    order = np.argsort(chance, kind="stable")
    p = np.clip(chance[order], 1e-12, 1 - 1e-12)
    seen = _miscalibration(p, np.asarray(y, float)[order])
    again = rng.uniform(size=(repeats, p.size)) < p
    more = sum(_miscalibration(p, outcomes.astype(float)) >= seen for outcomes in again)
    return (1 + more) / (1 + repeats)


def _miscalibration(p: np.ndarray, y: np.ndarray) -> float:
    """Brier score that recalibration would take away; p ascending."""
    recalibrated = isotonic_regression(y).x
    return float(np.square(p - y).mean() - np.square(recalibrated - y).mean())
