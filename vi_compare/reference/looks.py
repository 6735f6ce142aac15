"""Do short chains still tell where they started?

Half of the chains start inside the target's mass as a Gaussian has it, half outside; each is
worth one number for every margin, its mean, so that the errors rest on chains that know nothing
of each other and not on how long they remember. What is looked at, for the mean, the square and
both tails of every margin:

- the bracket: do those from inside differ from those from outside?
- the trend: do the second halves of the chains differ from the first?
- the memory: does it show, by its rank, where a chain started?
- the worth: how many independent draws is each chain worth? A chain that is worth less than a
  few has not been through the target, and then the other tests have no power: in a funnel the
  bracket closes while all chains together creep on.

Margossian et al. (2024), "Nested R-hat: assessing the convergence of Markov chain Monte Carlo
when running many short chains"; Wang, Kasprzak and Huggins (2023), "A targeted accuracy
diagnostic for variational approximations".
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from scipy.special import ndtri
from scipy.stats import rankdata

from vi_compare.evidence import worth


@dataclass(frozen=True)
class LookLimits:
    """When chains have forgotten their starts.

    Attributes:
        level: probability with which chains that have are taken not to have, all tests of a
            look together.
        worth: smallest number of independent draws that a chain must be worth.
        tails: the quantiles beyond which a draw is in a tail.
        superchains: groups of chains for the nested R-hat, half of them from inside.
    """

    level: float = 0.01
    worth: float = 6.0
    tails: tuple[float, float] = (0.05, 0.95)
    superchains: int = 8


@dataclass(frozen=True)
class Look:
    """What a look at the chains has shown.

    Attributes:
        bracket, trend, memory: largest |z| of each test.
        limit: that a |z| may have.
        worth: independent draws that a chain is worth, in the margin where that is fewest.
        slowest: that margin, its column.
        nested_rhat: largest over the margins.
        limits: that it was held against.
    """

    bracket: float
    trend: float
    memory: float
    limit: float
    worth: float
    slowest: int
    nested_rhat: float
    limits: LookLimits = LookLimits()

    @property
    def is_settled(self) -> bool:
        """Whether nothing tells any more where the chains started."""
        apart = max(self.bracket, self.trend, self.memory)
        return self.worth >= self.limits.worth and apart <= self.limit


def look(
    draws: np.ndarray, starts: np.ndarray, outside: np.ndarray, limits: LookLimits = LookLimits()
) -> Look:
    """Look at chains.

    Args:
        draws: normal scores of every margin of each chain, (chains, n, m): see `normal_scores`.
        starts: where the chains started, (chains, m).
        outside: which of them did so outside, (chains,).
    """
    columns = range(draws.shape[2])
    margins = [_margin(draws[..., j], starts[:, j], outside, limits) for j in columns]
    bracket, trend, memory, worth, rhat = np.array(margins).T
    tests = 10 * len(margins)  # four of the bracket, four of the trend, two of the memory
    limit = NormalDist().inv_cdf(1 - limits.level / (2 * tests))
    slowest = int(np.argmin(worth))
    largest = (float(bracket.max()), float(trend.max()), float(memory.max()))
    return Look(*largest, limit, float(worth[slowest]), slowest, float(rhat.max()), limits)


def worths(draws: np.ndarray, limits: LookLimits = LookLimits()) -> np.ndarray:
    """Independent draws that a chain is worth in every margin (m,); normal scores (chains, n, m):
    variance of all draws ÷ that of the chains' means, where it is smallest."""
    return np.array([_worth(_seen(z, limits)) for z in np.moveaxis(draws, 2, 0)])


def normal_scores(x: np.ndarray) -> np.ndarray:
    """What normal draws of the same ranks would be, margin by margin of x (chains, n, m): so heavy
    tails count no more than others (Vehtari et al. 2021)."""
    ranks = rankdata(x.reshape(-1, x.shape[2]), axis=0)
    return ndtri((ranks - 0.375) / (len(ranks) + 0.25)).reshape(x.shape)


def _margin(
    z: np.ndarray, start: np.ndarray, outside: np.ndarray, limits: LookLimits
) -> tuple[float, float, float, float, float]:
    """|z| of bracket, trend and memory, the worth of a chain, and the nested R-hat, of one margin
    (chains, n)."""
    seen = _seen(z, limits)
    means = seen.mean(axis=2)
    half = z.shape[1] // 2
    moved = seen[..., half:].mean(axis=2) - seen[..., :half].mean(axis=2)
    bracket = _apart(means[:, outside], means[:, ~outside])
    trend = float((np.abs(moved.mean(axis=1)) / _error(moved)).max())
    memory, rhat = _memory(start, means[0]), _nested_rhat(z, outside, limits)
    return bracket, trend, memory, _worth(seen), rhat


def _seen(z: np.ndarray, limits: LookLimits) -> np.ndarray:
    """What is looked at of a margin (chains, n): mean, square and tails, (4, chains, n)."""
    low, high = ndtri(limits.tails)
    return np.stack([z, z**2, z < low, z > high]).astype(float)


def _worth(seen: np.ndarray) -> float:
    """Of a chain, in what it is worth the least."""
    return float(worth(seen).min())


def _apart(one: np.ndarray, other: np.ndarray) -> float:
    """Largest |z| of the differences of means over chains; (statistics, chains) each."""
    error = np.hypot(_error(one), _error(other))
    return float((np.abs(one.mean(axis=1) - other.mean(axis=1)) / error).max())


def _error(x: np.ndarray) -> np.ndarray:
    """Standard errors of the means over chains, (statistics, chains) -> (statistics,)."""
    return x.std(axis=1, ddof=1) / np.sqrt(x.shape[1]) + 1e-300


def _memory(start: np.ndarray, now: np.ndarray) -> float:
    """|z| of the rank correlation of start and present (chains,), of places or of distances from
    the middle."""
    away = [np.abs(x - np.median(x)) for x in (start, now)]
    return max(_ranks_agree(start, now), _ranks_agree(*away))


def _ranks_agree(one: np.ndarray, other: np.ndarray) -> float:
    if np.ptp(one) == 0 or np.ptp(other) == 0:
        return 0.0
    correlation = np.corrcoef(rankdata(one), rankdata(other))[0, 1]
    return float(np.abs(correlation) * np.sqrt(len(one) - 1))


def _nested_rhat(z: np.ndarray, outside: np.ndarray, limits: LookLimits) -> float:
    from arviz_stats.base import array_stats

    order = np.argsort(outside, kind="stable")
    groups = np.arange(len(z)) * limits.superchains // len(z)
    found = float(array_stats.rhat_nested(z[order], groups, method="split"))
    return found if np.isfinite(found) else 1.0
