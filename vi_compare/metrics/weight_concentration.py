"""How few draws carry the importance weights."""

import numpy as np

from vi_compare.evidence import ALL, About, Estimate, Evidence, MetricKind
from vi_compare.psis import pareto_khat

ABOUT = About(
    name="weight concentration",
    meaning=(
        "Share of the total weight p/q that the heaviest 1 % of the draws of q carry; 1 % is best."
    ),
    kind=MetricKind.SMALLER,
    perfect=0.01,
    percent=True,
)


def measure(evidence: Evidence, blocks: int = 20) -> dict[str, Estimate]:
    """`blocks`: of draws, whose scatter gives the error."""
    log_w, reason = evidence.q.log_ratio()
    if log_w is None:
        return {ALL: Estimate.missing(reason)}
    if log_w.size < 2 * blocks:
        return {ALL: Estimate.missing(f"fewer than {2 * blocks} draws")}
    weights = np.exp(log_w - log_w.max())
    share = _share(weights)
    return {ALL: Estimate(share, _error(log_w, blocks), "1", log_w.size, ABOUT.perfect)}


def _share(weights: np.ndarray) -> float:
    held = max(1, round((ABOUT.perfect or 0.0) * weights.size))
    return float(np.partition(weights, -held)[-held:].sum() / weights.sum())


def _error(log_w: np.ndarray, blocks: int) -> float:
    """By blocks (Politis and Romano 1994), so that weights without a variance have one, too:
    the error of their mean falls with n to the power 1 − k instead of 1/2.

    Above k̂ = 1/2 it is the scatter of most runs: a few meet a far heavier draw.
    """
    khat = pareto_khat(log_w)
    rate = np.clip(1 - khat, 0.0, 0.5) if np.isfinite(khat) else 0.5 * np.isneginf(khat)
    parts = np.array_split(log_w, blocks)
    spread = np.std([_share(np.exp(part - part.max())) for part in parts], ddof=1)
    return float(spread / blocks**rate)
