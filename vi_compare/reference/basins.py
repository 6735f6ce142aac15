"""Does the reference miss a mode? Its basin masses against those that the fits imply.

Draws of all fits, weighted by p̃ ÷ their mixture, estimate the mass of every basin
without the reference (self-normalised importance sampling; Owen 2013, ch. 9). A basin
that no fit visits says nothing about the reference: the two are compared within the
basins that the fits visit. What both miss cannot be seen.

Heavy-tailed weights lose most of a basin, and then the shares of the others rise. They do
not invent mass: what they find of a basin, divided by the normaliser, is a lower bound.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from vi_compare.estimate import Estimate
from vi_compare.formatting import percent
from vi_compare.psis import pareto_khat
from vi_compare.reference.modes import FoundModes
from vi_compare.verdict import Concern, Doubt


@dataclass(frozen=True)
class BasinLimits:
    """When the basin masses of the reference are doubted.

    Attributes:
        false_alarm: probability with which a good reference is doubted where the weights
            are well behaved, all basins together.
        least: smallest difference in mass that counts; less would change no verdict.
        khat: largest k̂ at which the weights have a variance, so that their standard errors
            mean something.
        visits: smallest number of draws of the fits in a basin that the fits are taken to
            know.
    """

    false_alarm: float = 1e-4
    least: float = 0.01
    khat: float = 0.5
    visits: int = 20


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
    modes: FoundModes,
    weights: Mapping[str, np.ndarray],
    log_z: Estimate,
    limits: BasinLimits = BasinLimits(),
) -> BasinCheck:
    """Compare the reference's shares with importance-weighted draws of the fits.

    Args:
        weights: {fit: log p̃ − log(mixture of all fits)} (m,), at the draws whose basins
            are ``modes.members[fit]``.
        log_z: log normaliser of p̃, at least of what the reference covers; may be missing.
    """
    if not weights:
        return BasinCheck(None, None, None, reason="no fit has a density")
    log_w = np.concatenate([np.asarray(w, dtype=float) for w in weights.values()])
    member = np.concatenate([modes.members[fit] for fit in weights])
    log_w[np.isnan(log_w)] = -np.inf
    inside = member[None] == np.arange(len(modes.names))[:, None]
    known = inside.sum(axis=1) >= limits.visits
    log_w[~known[member]] = -np.inf
    if not np.isfinite(log_w).any():
        return BasinCheck(None, None, None, reason="the fits visit no basin of the target")
    # Of all weights together it can look well while those of one basin are a few draws.
    khat = max(_khat(log_w[member == m]) for m in np.flatnonzero(known))
    w = np.exp(log_w - log_w.max())
    w /= w.sum()
    masses = inside @ w
    errors = np.sqrt(((inside - masses[:, None]) ** 2) @ w**2)
    z = NormalDist().inv_cdf(1 - limits.false_alarm / (2 * known.sum()))
    if khat <= limits.khat:
        doubts = _apart(modes, known, masses, errors, z, limits.least)
    else:
        doubts = _unseen(modes, known, inside, log_w, log_z, z, limits.least)
    unknown = lambda values: np.where(known, values, np.nan)
    return BasinCheck(unknown(masses), unknown(errors), khat, doubts)


def _apart(modes: FoundModes, known, masses, errors, z: float, least: float) -> tuple[Doubt, ...]:
    """Doubts about known basins whose two shares differ by more than z standard errors and
    by more than `least`."""
    # The share of the reference's draws in the basins that the fits know.
    whole = float(modes.shares["test"][known].sum())
    doubts = []
    for m in np.flatnonzero(known):
        p, n = modes.shares["test"][m] / (whole or 1.0), modes.effective[m] * whole
        smoothed = (p * n + 2) / (n + 4)
        error = np.hypot(errors[m], np.sqrt(smoothed * (1 - smoothed) / (n + 4)))
        if abs(masses[m] - p) > max(least, z * error):
            shares = "" if known.all() else ", both shares of the basins that the fits visit"
            found = percent(float(masses[m]), float(errors[m]))
            doubts.append(_doubt(modes.names[m], p, found, shares))
    return tuple(doubts)


def _unseen(
    modes: FoundModes, known, inside, log_w, log_z: Estimate, z: float, least: float
) -> tuple[Doubt, ...]:
    """Doubts about known basins in which the reference has next to nothing, and the weights,
    heavy-tailed as they are, show a mass above `least` by z standard errors."""
    if log_z.value is None:
        return ()
    doubts = []
    for m in np.flatnonzero(known & (modes.shares["test"] < least / 2)):
        ratio = np.where(inside[m], np.exp(log_w - log_z.value), 0.0)
        found, by_chance = ratio.mean(), ratio.std(ddof=1) / np.sqrt(len(ratio))
        sure = found - z * np.hypot(by_chance, found * (log_z.standard_error or 0.0))
        # Were the basin missing from the normaliser, too, it would hold this share.
        bound = sure / (1 + sure)
        if bound > least:
            p = modes.shares["test"][m]
            doubts.append(_doubt(modes.names[m], p, f"at least {100 * bound:.2g} %"))
    return tuple(doubts)


def _doubt(mode: str, share: float, found: str, within: str = "") -> Doubt:
    words = (
        f"it may miss a mode: {mode} has {100 * share:.3g} % of its draws, and {found} by the "
        f"weighted draws of the fits{within}"
    )
    return Doubt(Concern.MISSED_MODE, words)


def _khat(log_w: np.ndarray) -> float:
    """k̂ of the weights that are not 0; 0 where they are equal, ∞ where no tail fits."""
    finite = log_w[np.isfinite(log_w)]
    khat = pareto_khat(finite) if finite.size else np.nan
    return 0.0 if khat == -np.inf else np.inf if np.isnan(khat) else khat
