"""Mean marginal total variation, MMTV (Acerbi 2020, "Variational Bayesian Monte Carlo with noisy
likelihoods")."""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

import numpy as np
from scipy.ndimage import gaussian_filter1d

from vi_compare.estimate import NO_MARGIN, worst_few
from vi_compare.evidence import ALL, NO_REFERENCE, About, Draws, Estimate, Evidence, MetricKind
from vi_compare.metrics._empirical import few_margins
from vi_compare.metrics._halves import first_half

ABOUT = About(
    name="marginal total variation",
    meaning="½ ∫ |p − q| of each margin; the headline is their mean, MMTV of the VBMC papers.",
    kind=MetricKind.SMALLER,
    perfect=0.0,
    good=0.05,
    near=0.2,  # the papers' rule of thumb: margins that overlap by four fifths
    percent=True,
    heading="Marginal",
    below="TV",
)


def measure(evidence: Evidence) -> dict[str, Estimate]:
    """Margins of the model's own values, as in the papers. Each is P_p(A) − P_q(A) for the set A
    where p > q; half of the draws say where that is, and the other half how likely it is. So a
    perfect fit scores 0 on average, and A that is not quite right makes the value a little small.
    """
    test, floor, q = evidence.test, evidence.floor, evidence.q
    if test is None or floor is None:
        return {ALL: Estimate.missing(NO_REFERENCE)}
    of_q, of_p, again = few_margins(evidence)
    if not of_p:
        return {ALL: Estimate.missing(NO_MARGIN)}
    found = {x: _Inside.of(of_p[x], test, of_q[x], q) for x in of_p}
    least = {x: _Inside.of(of_p[x], test, again[x], floor) for x in of_p}

    def estimate(inside: _Inside, perfect: _Inside) -> Estimate:
        x, y = inside.x, inside.y
        variance = x.var() / test.effective(x) + y.var() / q.effective(y)
        # Where the halves take each other's noise for a difference, both err in the same way.
        variance *= 1 + min(1.0, 2 * inside.disagree)
        error = float(np.sqrt(variance + 1 / y.size**2))  # where all draws, or none, are in A
        return Estimate(inside.gap, error, "1", y.size, perfect.gap)

    few = worst_few(
        {x: inside.gap for x, inside in found.items()},
        ABOUT.badness,
        lambda x: estimate(found[x], least[x]),
    )
    return few | {ALL: estimate(_Inside.mean(found.values()), _Inside.mean(least.values()))}


class _Inside(NamedTuple):
    """Whether draws of two laws are in the set A where the first is the denser.

    Attributes:
        x, y: (n,) and (m,) draws of either: 1 in A, else 0, A being what the half that the draw
            is not in makes of it.
        disagree: share of all draws of which the two halves say different things.
    """

    x: np.ndarray
    y: np.ndarray
    disagree: float

    @property
    def gap(self) -> float:
        return float(self.x.mean() - self.y.mean())

    @classmethod
    def of(cls, x: np.ndarray, of_x: Draws, y: np.ndarray, of_y: Draws) -> _Inside:
        first = first_half(x.size, of_x.chains), first_half(y.size, of_y.chains)
        both = np.concatenate([x, y])
        by_first, by_second = (
            _denser(x[mine], y[yours], both) for mine, yours in (first, map(np.invert, first))
        )
        inside = np.where(np.concatenate(first), by_second, by_first).astype(float)
        return cls(inside[: x.size], inside[x.size :], float(np.mean(by_first != by_second)))

    @classmethod
    def mean(cls, several: Collection[_Inside]) -> _Inside:
        sides = (np.sum([part[side] for part in several], axis=0) for side in (0, 1))
        x, y = (side / len(several) for side in sides)
        return cls(x, y, float(np.mean([part.disagree for part in several])))


def _denser(x: np.ndarray, y: np.ndarray, at: np.ndarray, bins: int = 512) -> np.ndarray:
    """Whether the density of x is above that of y at these points.

    Both are smoothed over the ranks in both samples together, where no transform of the values
    matters, no tail is long and no bin is empty; by two thirds of Silverman's width for a uniform,
    because only the sign counts, and what is too wide hides where it changes.

    Args:
        bins: of the ranks; far narrower than what they are smoothed by.
    """
    pooled = np.sort(np.concatenate([x, y]))
    place = lambda z: np.minimum(np.searchsorted(pooled, z) * bins // pooled.size, bins - 1)
    count = lambda z: np.bincount(place(z), minlength=bins) / z.size
    width = 0.6 * 12**-0.5 * min(x.size, y.size) ** -0.2 * bins
    gap = gaussian_filter1d(count(x) - count(y), width, mode="reflect")
    return gap[place(at)] > 0
