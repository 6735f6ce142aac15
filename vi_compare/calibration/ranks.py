"""What the ranks of the true values say of a fit: shifted, too sure, too diffuse, or nothing.

A rank among L draws becomes p = (rank + v)/(L + 1), v ~ U(0, 1), so that p is exactly uniform
where the fit is right (Talts et al. 2018, "Validating Bayesian inference algorithms with
simulation-based calibration"). Its normal score x = Φ⁻¹(p) is then exactly N(0, 1), and is what the
true value is in standard deviations of the fit where that is a Gaussian (Cook, Gelman and Rubin
2006, "Validation of software for Bayesian models using posterior quantiles"). Three tests of every
margin, each for a fault with a name:

- location: the mean of x is 0, by Student's t. Above: the fit lies too low.
- width: the variance of x is 1. Above: the fit is too narrow, ranks pile up at both ends.
- shape: p is uniform, by ArviZ's test of all order statistics at once, which sees what has no name.

The first two are exact and their power has a closed form, but for ranks among finitely many draws,
which end at ±3.5 standard deviations for 1,999: measured, it is 0.88 to 0.91 where 0.9 is stated.
Holm's correction over all tests of all margins keeps the probability of any false accusation below
the level, however they depend.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum

import numpy as np
from arviz_stats.base import array_stats
from scipy import optimize, stats


class Misfit(StrEnum):
    """What is wrong with a fit in one margin, as the ranks have it."""

    LOW = "too low"
    HIGH = "too high"
    NARROW = "too sure"
    WIDE = "too diffuse"
    SHAPE = "of another shape"


@dataclass(frozen=True)
class RankTests:
    """How ranks are judged.

    Attributes:
        level: probability of accusing any margin of a fit that is right, at most.
        probability: with which a fault of the sizes that are stated is seen.
        inflation: ArviZ's p-values, whose Cauchy combination is approximate, are multiplied by it.
            Below 0.05, 0.01, 0.002 and 0.0005 they fall up to 1.35 times too often: 40,000 sets of
            20, 50 and 200 uniform numbers, 10,000 of 1,000 (numpy's default_rng(1)).
        least: fewest data sets for a judgement.
        worth: independent draws that the true values were taken from. Where these are draws of a
            reference, its own error is in all ranks, and N data sets err like N/(1 + N/worth).
        share: the test of shape looks at `worth` / `share` data sets at most, as that error has no
            place in its p-value.
    """

    level: float = 0.01
    probability: float = 0.9
    inflation: float = 1.4
    least: int = 20
    worth: float = np.inf
    share: float = 20.0

    def judge(self, ps: Mapping[str, np.ndarray]) -> dict[str, MarginRanks]:
        """{margin: what its ranks p (N,) say}; p is NaN for a data set that has none."""
        found = {label: self._measured(p[np.isfinite(p)]) for label, p in ps.items()}
        if not found:
            return {}
        each = np.stack([one.p_values for one in found.values()])
        adjusted = holm(each.ravel()).reshape(each.shape)
        return {
            label: one.accused(row, self.level)
            for (label, one), row in zip(found.items(), adjusted, strict=True)
        }

    def _measured(self, p: np.ndarray) -> MarginRanks:
        n = p.size
        if n < self.least:
            return MarginRanks(n, 0.0, 1.0, np.ones(3), 1.0, 1.0)
        x = stats.norm.ppf(np.clip(p, 1e-12, 1 - 1e-12))
        noise = np.sqrt(self._noise(n))
        # Student's, so that a fit that is only too narrow is not called shifted, too.
        location = 2 * stats.t.sf(abs(x.mean()) / x.std(ddof=1) * np.sqrt(n) / noise, n - 1)
        square = (n - 1) * (1 + (x.var(ddof=1) - 1) / noise)
        width = 2 * min(stats.chi2.cdf(square, n - 1), stats.chi2.sf(square, n - 1))
        seen = int(min(n, max(self.least, self.worth / self.share)))
        shape = self.inflation * float(array_stats.uniformity_test(p[:seen])[0])
        p_values = np.minimum([location, width, shape], 1.0)
        shift, ratio = -float(x.mean()), 1 / float(x.std(ddof=1))
        errors = noise / ratio / np.sqrt(n), noise * ratio / np.sqrt(2 * n)
        return MarginRanks(n, shift, ratio, p_values, *errors)

    def _noise(self, n: int) -> float:
        """The variance of means over n data sets, over that of independent true values."""
        return 1 + n / self.worth

    def power(self, n: int, margins: int) -> RankPower:
        """The smallest faults that `n` data sets show, where `margins` are judged together.

        Holm's first step, which is Bonferroni's, is what a single fault has to pass; where there
        are more faults, the others need less.
        """
        tail = self.level / (3 * margins) / 2
        limit, root = stats.t.isf(tail, n - 1), np.sqrt(n / self._noise(n))
        seen = lambda shift: stats.nct.sf(limit, n - 1, shift * root) - self.probability
        # The normal approximation, and room on either side.
        near = (limit + stats.norm.ppf(self.probability)) / root
        shift = optimize.brentq(seen, near / 2, 2 * near)
        square, noise = stats.chi2(n - 1), np.sqrt(self._noise(n))
        wider = lambda q: 1 + (q / (n - 1) - 1) * noise
        # sd of x where the fit is narrow, and where it is wide; the fit's width is the inverse.
        over = np.sqrt(wider(square.isf(tail)) / wider(square.isf(self.probability)))
        under = np.sqrt(wider(square.ppf(tail)) / wider(square.ppf(self.probability)))
        return RankPower(self.probability, float(shift), float(1 / over), float(1 / under))


@dataclass(frozen=True)
class RankPower:
    """What would have been seen with `probability`: a location off by `shift` standard deviations
    of the fit; a width of `narrow` times the right one, or less; of `wide` times, or more."""

    probability: float
    shift: float
    narrow: float
    wide: float


@dataclass(frozen=True, eq=False)
class MarginRanks:
    """The ranks of one margin.

    Attributes:
        n: data sets that have one.
        shift: of the fit's location from where it should be, in standard deviations of the fit.
        width: of the fit, over what it should be.
        p_values: (3,) of location, width and shape; as they are, or adjusted for all others.
        shift_error, width_error: standard errors.
        misfits: what the fit is accused of.
    """

    n: int
    shift: float
    width: float
    p_values: np.ndarray
    shift_error: float
    width_error: float
    misfits: tuple[Misfit, ...] = ()

    def accused(self, adjusted: np.ndarray, level: float) -> MarginRanks:
        """The same, with p-values (3,) adjusted for all tests, and what these are below `level`
        for. A shape alone is named where neither location nor width is."""
        location, width, shape = adjusted < level
        named = [Misfit.LOW if self.shift < 0 else Misfit.HIGH] if location else []
        named += [Misfit.NARROW if self.width < 1 else Misfit.WIDE] if width else []
        if shape and not named:
            named = [Misfit.SHAPE]
        return replace(self, p_values=adjusted, misfits=tuple(named))


def holm(p_values: np.ndarray) -> np.ndarray:
    """p-values (k,) adjusted for all k (Holm 1979, "A simple sequentially rejective multiple test
    procedure", Scandinavian Journal of Statistics 6)."""
    order = np.argsort(p_values)
    steps = np.maximum.accumulate(p_values[order] * np.arange(len(order), 0, -1))
    out = np.empty(len(order))
    out[order] = np.minimum(steps, 1.0)
    return out
