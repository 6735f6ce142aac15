"""Markov chains: have they mixed, and what are they worth?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from vi_compare.verdict import Concern, Doubt

if TYPE_CHECKING:
    from vi_compare.evidence import Draws


@dataclass(frozen=True)
class Limits:
    """Limits within which Markov chains are believed (Vehtari et al. 2021,
    "Rank-normalization, folding, and localization: an improved R-hat").

    Attributes:
        rhat: largest rank-normalised split R-hat.
        ess: smallest bulk or tail ESS.
        divergences: largest share of divergent transitions.
        tails: the two quantiles whose ESS is the tail ESS.
    """

    rhat: float = 1.01
    ess: float = 400
    divergences: float = 0.001
    tails: tuple[float, float] = (0.05, 0.95)


@dataclass(frozen=True)
class Diagnosis:
    """What can be said of chains without knowing the target's truth.

    Attributes:
        rhat: the largest over the coordinates of u and log p, all chains together, a single
            chain as its two halves; None for independent draws.
        ess: the smallest of bulk and tail over the same, of the draws that metrics see.
        divergences: share of transitions that diverged; None where it is not known.
        chains, draws: how many chains, and draws of all of them.
        doubts: why they should not be believed.
        limits: what they were held against.
    """

    rhat: float | None
    ess: float
    divergences: float | None
    chains: int
    draws: int
    doubts: tuple[Doubt, ...]
    limits: Limits = Limits()


def diagnose(
    every: Draws, test: Draws, divergences: float | None, limits: Limits = Limits()
) -> Diagnosis:
    """Judge chains by R-hat of all of them, and by the ESS of the part `test`."""
    from arviz_stats.base import array_stats

    rhat = None
    if every.chains:
        ranks = [array_stats.rhat(_at_least_two(rows)) for rows in _columns(every)]
        rhat = float(np.max(np.nan_to_num(ranks, nan=np.inf)))
    ess = (
        min(_ess(rows, limits.tails) for rows in _columns(test))
        if test.chains
        else float(len(test))
    )
    doubts = []
    if rhat is not None and rhat > limits.rhat:
        words = f"its chains disagree: R-hat {rhat:.3f}, above {limits.rhat}"
        doubts.append(Doubt(Concern.CHAINS_DISAGREE, words))
    if ess < limits.ess:
        words = f"it is worth {ess:.0f} independent draws, fewer than {limits.ess}"
        doubts.append(Doubt(Concern.FEW_DRAWS, words))
    if divergences is not None and divergences > limits.divergences:
        share, most = f"{100 * divergences:.2g} %", f"{100 * limits.divergences:g} %"
        words = f"{share} of its transitions diverged, above {most}"
        doubts.append(Doubt(Concern.DIVERGENCES, words))
    chains = max(1, every.chains)
    return Diagnosis(rhat, ess, divergences, chains, len(every), tuple(doubts), limits)


def _columns(draws: Draws) -> list[np.ndarray]:
    """(chains, n) of every coordinate of u, and of log p."""
    u, log_p = np.asarray(draws.u), np.asarray(draws.log_p)
    return [x.reshape(draws.chains, -1) for x in (*u.T, log_p)]


def _at_least_two(rows: np.ndarray) -> np.ndarray:
    """Chains (c, n); a single one in two halves, for with itself alone it cannot disagree."""
    return rows if len(rows) > 1 else rows[:, : rows.shape[1] // 2 * 2].reshape(2, -1)


def _ess(rows: np.ndarray, tails: tuple[float, float]) -> float:
    from arviz_stats.base import array_stats

    found = [array_stats.ess(rows, method="bulk")]
    found.append(array_stats.ess(rows, method="tail", prob=tails))
    return float(np.nan_to_num(found, nan=1.0).min())
