"""Does the reference miss a mode? Its basin masses against those that the fits imply.

Draws of all fits, weighted by p̃ ÷ their mixture, estimate the mass of every basin
without the reference (self-normalised importance sampling; Owen 2013, ch. 9). A basin
that the fits do not visit is theirs to answer for, not the reference's: the two are
compared within the basins that the fits know. What both miss cannot be seen.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from vi_compare.modes import FoundModes
from vi_compare.psis import pareto_khat

# A good reference is doubted so often when the weights behave; and a difference below
# one percent of the mass would change no verdict.
FALSE_ALARM, LEAST = 1e-4, 0.01
MOST_KHAT = 0.5  # beyond it the weights have no variance, and their errors mean nothing
VISITS = 20  # draws of the fits in a basin, below which they do not know it


@dataclass(frozen=True)
class BasinCheck:
    """Masses of the basins by importance sampling, beside the reference's.

    Attributes:
        masses, errors: (M,) by importance sampling, shares of the basins that the fits
            visit and NaN in others; None where it could not be made.
        khat: of the weights, in the basin where it is largest.
        doubts: what is wrong with the reference, in words.
        reason: why it could not be made; "" where it was.
    """

    masses: np.ndarray | None
    errors: np.ndarray | None
    khat: float | None
    doubts: tuple[str, ...] = ()
    reason: str = ""


def check_basins(modes: FoundModes, weights: Mapping[str, np.ndarray]) -> BasinCheck:
    """Compare the reference's shares with importance-weighted draws of the fits.

    Args:
        weights: {fit: log p̃ − log(mixture of all fits)} at the draws that
            ``modes.members[fit]`` tells the basins of, (m,) each.
    """
    if not weights:
        return BasinCheck(None, None, None, reason="no fit has a density")
    log_w = np.concatenate([np.asarray(w, dtype=float) for w in weights.values()])
    member = np.concatenate([modes.members[fit] for fit in weights])
    log_w[np.isnan(log_w)] = -np.inf
    inside = member[None] == np.arange(len(modes.names))[:, None]
    known = inside.sum(axis=1) >= VISITS
    log_w[~known[member]] = -np.inf
    if not np.isfinite(log_w).any():
        return BasinCheck(None, None, None, reason="the fits visit no basin of the target")
    # Of all weights together it can look well while those of one basin are a few draws.
    khat = max(_khat(log_w[member == m]) for m in np.flatnonzero(known))
    w = np.exp(log_w - log_w.max())
    w /= w.sum()
    masses = inside @ w
    errors = np.sqrt(((inside - masses[:, None]) ** 2) @ w**2)
    doubts = _doubts(modes, known, masses, errors, khat)
    unknown = lambda values: np.where(known, values, np.nan)
    return BasinCheck(unknown(masses), unknown(errors), khat, doubts)


def _doubts(modes: FoundModes, known, masses, errors, khat: float) -> tuple[str, ...]:
    """Known basins whose mass the two put apart by more than chance."""
    limit = NormalDist().inv_cdf(1 - FALSE_ALARM / (2 * known.sum()))
    # The reference's own draws in the basins that the fits know.
    whole = float(modes.shares["test"][known].sum())
    doubts = []
    for m in np.flatnonzero(known):
        p, n = modes.shares["test"][m] / (whole or 1.0), modes.effective[m] * whole
        smoothed = (p * n + 2) / (n + 4)
        error = np.hypot(errors[m], np.sqrt(smoothed * (1 - smoothed) / (n + 4)))
        gap = masses[m] - p
        # Bad weights lose a basin easily, but they do not make one up: what they find
        # where the reference has nothing is there, if not in this amount.
        sure = khat <= MOST_KHAT or (p < LEAST / 2 and gap > 0)
        if sure and abs(gap) > max(LEAST, limit * error):
            doubts.append(
                f"it may miss a mode: {modes.names[m]} has {100 * p:.3g} % of its draws, and "
                f"{100 * masses[m]:.3g} ± {100 * errors[m]:.2g} % by the weighted draws of the "
                f"fits{'' if known.all() else ', both of the basins that the fits visit'}"
            )
    return tuple(doubts)


def _khat(log_w: np.ndarray) -> float:
    """Of the weights that are not 0; 0 where they are equal, ∞ where nobody can tell."""
    finite = log_w[np.isfinite(log_w)]
    khat = pareto_khat(finite) if finite.size else np.nan
    return 0.0 if khat == -np.inf else np.inf if np.isnan(khat) else khat
