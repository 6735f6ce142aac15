"""Does the reference miss a mode? Its basin masses against those that the fits imply.

Draws of all fits, weighted by p̃ ÷ their mixture, estimate the mass of every basin
without the reference (self-normalised importance sampling; Owen 2013, ch. 9). A basin
that the fits do not visit is theirs to answer for, not the reference's: the two are
compared within the basins that the fits know. What both miss cannot be seen.

Bad weights lose most of a basin, and then the shares of the others rise. They do not make
mass up: what they find of a basin, divided by the normaliser of all, is a lower bound.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from vi_compare.estimate import Estimate
from vi_compare.psis import pareto_khat
from vi_compare.reference.modes import FoundModes
from vi_compare.verdict import Concern, Doubt

# A good reference is doubted so often when the weights behave; and a difference below
# one percent of the mass would change no verdict.
FALSE_ALARM, LEAST = 1e-4, 0.01
MOST_KHAT = 0.5  # beyond it the weights have no variance, and their errors mean nothing
BY_WEIGHTS = " by the weighted draws of the fits"
VISITS = 20  # draws of the fits in a basin, below which they do not know it


@dataclass(frozen=True)
class BasinCheck:
    """Masses of the basins by importance sampling, beside the reference's.

    Attributes:
        masses, errors: (M,) by importance sampling, shares of the basins that the fits
            visit and NaN in others; None where it could not be made.
        khat: of the weights, in the basin where it is largest.
        doubts: what is wrong with the reference.
        reason: why it could not be made; "" where it was.
    """

    masses: np.ndarray | None
    errors: np.ndarray | None
    khat: float | None
    doubts: tuple[Doubt, ...] = ()
    reason: str = ""


def check_basins(
    modes: FoundModes, weights: Mapping[str, np.ndarray], log_z: Estimate
) -> BasinCheck:
    """Compare the reference's shares with importance-weighted draws of the fits.

    Args:
        log_z: log normaliser of p̃, of what the reference covers at least; may be missing.
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
    limit = NormalDist().inv_cdf(1 - FALSE_ALARM / (2 * known.sum()))
    if khat <= MOST_KHAT:
        doubts = _apart(modes, known, masses, errors, limit)
    else:
        doubts = _unseen(modes, known, inside, log_w, log_z, limit)
    unknown = lambda values: np.where(known, values, np.nan)
    return BasinCheck(unknown(masses), unknown(errors), khat, doubts)


def _apart(modes: FoundModes, known, masses, errors, limit: float) -> tuple[Doubt, ...]:
    """Known basins whose share the two put apart by more than chance."""
    # The reference's own draws in the basins that the fits know.
    whole = float(modes.shares["test"][known].sum())
    doubts = []
    for m in np.flatnonzero(known):
        p, n = modes.shares["test"][m] / (whole or 1.0), modes.effective[m] * whole
        smoothed = (p * n + 2) / (n + 4)
        error = np.hypot(errors[m], np.sqrt(smoothed * (1 - smoothed) / (n + 4)))
        if abs(masses[m] - p) > max(LEAST, limit * error):
            shares = "" if known.all() else ", both shares of the basins that the fits visit"
            found = f"{100 * masses[m]:.3g} ± {100 * errors[m]:.2g} %"
            doubts.append(_doubt(modes.names[m], p, f"{found}{BY_WEIGHTS}{shares}"))
    return tuple(doubts)


def _unseen(
    modes: FoundModes, known, inside, log_w, log_z: Estimate, limit: float
) -> tuple[Doubt, ...]:
    """Known basins where the reference has nothing, and bad weights find mass for certain."""
    if log_z.value is None:
        return ()
    doubts = []
    for m in np.flatnonzero(known & (modes.shares["test"] < LEAST / 2)):
        ratio = np.where(inside[m], np.exp(log_w - log_z.value), 0.0)
        found, by_chance = ratio.mean(), ratio.std(ddof=1) / np.sqrt(len(ratio))
        sure = found - limit * np.hypot(by_chance, found * (log_z.standard_error or 0.0))
        # Were the basin missing from the normaliser, too, it would hold this share.
        least = sure / (1 + sure)
        if least > LEAST:
            p = modes.shares["test"][m]
            doubts.append(_doubt(modes.names[m], p, f"at least {100 * least:.2g} %{BY_WEIGHTS}"))
    return tuple(doubts)


def _doubt(mode: str, share: float, found: str) -> Doubt:
    words = f"it may miss a mode: {mode} has {100 * share:.3g} % of its draws, and {found}"
    return Doubt(Concern.MISSED_MODE, words)


def _khat(log_w: np.ndarray) -> float:
    """Of the weights that are not 0; 0 where they are equal, ∞ where nobody can tell."""
    finite = log_w[np.isfinite(log_w)]
    khat = pareto_khat(finite) if finite.size else np.nan
    return 0.0 if khat == -np.inf else np.inf if np.isnan(khat) else khat
