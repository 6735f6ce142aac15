"""How few draws carry the importance weights."""

import numpy as np

from vi_compare.evidence import ALL, Estimate, Evidence
from vi_compare.psis import log_ratio, pareto_khat

LEVEL = 0.01
BLOCKS = 20


def measure(evidence: Evidence) -> dict[str, Estimate]:
    """Share of the total weight p/q that the heaviest 1 % of the draws of q carry; 1 % is best."""
    log_w, reason = log_ratio(evidence.q)
    if log_w is None:
        return {ALL: Estimate.missing(reason)}
    if log_w.size < 2 * BLOCKS:
        return {ALL: Estimate.missing(f"fewer than {2 * BLOCKS} draws")}
    weights = np.exp(log_w - log_w.max())
    share = _share(weights)
    return {ALL: Estimate(share, _error(log_w), "1", log_w.size, LEVEL)}


def _share(weights: np.ndarray) -> float:
    held = max(1, round(LEVEL * weights.size))
    return float(np.partition(weights, -held)[-held:].sum() / weights.sum())


def _error(log_w: np.ndarray) -> float:
    """By blocks (Politis and Romano 1994), so that weights without a variance have one, too:
    the error of their mean falls with n to the power 1 − k instead of 1/2.

    Above k̂ = 1/2 it is the scatter of most runs: a few meet a far heavier draw.
    """
    khat = pareto_khat(log_w)
    rate = np.clip(1 - khat, 0.0, 0.5) if np.isfinite(khat) else 0.5 * np.isneginf(khat)
    blocks = np.array_split(log_w, BLOCKS)
    spread = np.std([_share(np.exp(block - block.max())) for block in blocks], ddof=1)
    return float(spread / BLOCKS**rate)
