"""Markov chains: have they mixed, and what are they worth?"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from vi_compare.evidence import Draws

# Vehtari et al. (2021): rank-normalised split R-hat, bulk and tail ESS.
MOST_RHAT, LEAST_ESS = 1.01, 400
MOST_DIVERGENT = 0.001
TAILS = (0.05, 0.95)


@dataclass(frozen=True)
class Diagnosis:
    """What can be said of chains without knowing the target's truth.

    Attributes:
        rhat: the largest over the coordinates of u and log p, all chains together; None
            for a single chain of independent draws.
        ess: the smallest of bulk and tail over the same, of the draws that metrics see.
        divergences: share of transitions that diverged; None where it is not known.
        chains, draws: how many chains, and draws of all of them.
        doubts: why they should not be believed, in words.
    """

    rhat: float | None
    ess: float
    divergences: float | None
    chains: int
    draws: int
    doubts: tuple[str, ...]


def diagnose(every: Draws, test: Draws, divergences: float | None) -> Diagnosis:
    """Judge chains by R-hat of all of them, and by the ESS of the part `test`."""
    from arviz_stats.base import array_stats

    rhat = None
    if every.chains:
        ranks = [array_stats.rhat(rows) for rows in _columns(every)]
        rhat = float(np.max(np.nan_to_num(ranks, nan=np.inf)))
    ess = min(_ess(rows) for rows in _columns(test)) if test.chains else float(len(test))
    doubts = []
    if rhat is not None and rhat > MOST_RHAT:
        doubts.append(f"its chains disagree: R-hat {rhat:.3f}, above {MOST_RHAT}")
    if ess < LEAST_ESS:
        doubts.append(f"it is worth {ess:.0f} independent draws, fewer than {LEAST_ESS}")
    if divergences is not None and divergences > MOST_DIVERGENT:
        share, most = f"{100 * divergences:.2g} %", f"{100 * MOST_DIVERGENT:g} %"
        doubts.append(f"{share} of its transitions diverged, above {most}")
    return Diagnosis(rhat, ess, divergences, max(1, every.chains), len(every), tuple(doubts))


def _columns(draws: Draws) -> list[np.ndarray]:
    """(chains, n) of every coordinate of u, and of log p."""
    u, log_p = np.asarray(draws.u), np.asarray(draws.log_p)
    return [x.reshape(draws.chains, -1) for x in (*u.T, log_p)]


def _ess(rows: np.ndarray) -> float:
    from arviz_stats.base import array_stats

    found = [array_stats.ess(rows, method="bulk")]
    found.append(array_stats.ess(rows, method="tail", prob=TAILS))
    return float(np.nan_to_num(found, nan=1.0).min())
