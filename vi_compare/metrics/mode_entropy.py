"""Entropic mode coverage (Blessing et al. 2024, "Beyond ELBOs")."""

import numpy as np

from vi_compare.evidence import ALL, About, Estimate, Evidence, Kind
from vi_compare.metrics._modes import LEAST_MASS

ABOUT = About(
    name="mode entropy",
    meaning="Entropy of the fit's shares of the target's modes, to base of their number: 0 to 1.",
    kind=Kind.LARGER,
    counts_from=LEAST_MASS,
)


def measure(evidence: Evidence, copies: int = 200) -> dict[str, Estimate]:
    """`copies`: of the parametric bootstrap."""
    modes = evidence.modes
    if modes is None:
        return {ALL: Estimate.missing(evidence.modes_reason)}
    counted = modes.target >= ABOUT.counts_from
    held = modes.fit[counted]
    if counted.sum() < 2:
        return {ALL: Estimate.missing("there is a single mode")}
    if not held.sum() > 0:
        return {ALL: Estimate.missing("no draw of the fit is in a mode of the target")}
    n = round(modes.n * held.sum())
    rng = np.random.default_rng(0)  # parametric bootstrap: an entropy is no mean
    # Jeffreys' prior, so that a mode with no draw is not taken for one without mass.
    smooth = (held * modes.n + 0.5) / (held * modes.n + 0.5).sum()
    found = [_entropy(shares) for shares in rng.multinomial(n, smooth, copies) / n]
    target = _entropy(modes.target[counted])
    return {ALL: Estimate(_entropy(held), float(np.std(found, ddof=1)), "1", n, target)}


def _entropy(shares: np.ndarray) -> float:
    p = shares / shares.sum()
    return float(-np.sum(p * np.log(np.where(p > 0, p, 1.0))) / np.log(p.size))
