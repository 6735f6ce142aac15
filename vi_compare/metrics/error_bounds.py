"""Bounds on the errors of means and sds from the weights alone: no draws of the target needed.

Huggins et al. (2020, "Validated variational inference via practical posterior error
bounds") in the steps of their package viabel (`viabel/diagnostics.py`): the 2-divergence
D₂(p‖q) ≤ d₂ = 2 (CUBO₂ − ELBO), then W_r(p, q) ≤ 2 C^{1/2r} (e^{d₂} − 1)^{1/2r} with
C = E_q|x − E_q x|^{2r}, then |Δ mean| ≤ min(W₁, W₂) and |Δ sd| ≤ W₂. Each margin for itself,
for which D₂ is at most that of all: so one unit, the sd of q, serves every margin.
"""

import numpy as np

from vi_compare.evidence import ALL, About, Estimate, Evidence, MetricKind
from vi_compare.psis import pareto_khat

ABOUT = About(
    name="error bounds",
    meaning="Upper bounds on the error of any mean, any sd, W₁ and W₂ of a margin, in sd of q.",
    kind=MetricKind.SMALLER,
    unit="sd",
    perfect=0.0,
)


def measure(evidence: Evidence) -> dict[str, Estimate]:
    log_w, reason = evidence.q.log_ratio()
    reason = reason if log_w is None else _too_heavy(log_w)
    if log_w is None or reason:
        return {ALL: Estimate.missing(reason, "sd")}
    weights = np.exp(2 * (log_w - log_w.max()))
    second, elbo = weights.mean(), log_w.mean()
    d2 = np.log(second) + 2 * (log_w.max() - elbo)
    moved = weights / second - 1 - 2 * (log_w - elbo)  # the influence of each draw on d₂
    # The fourth root below would make 1e-4 of what is rounding here.
    rounding = 8 * np.finfo(float).eps * (1 + np.abs(np.asarray(evidence.q.log_p)).max())
    excess = float(np.expm1(d2)) if d2 > rounding else 0.0
    fourth, bent = _heaviest(evidence)
    slope = np.exp(d2) / excess * moved if excess > 0 else np.zeros_like(moved)
    w1 = _estimate(2 * excess**0.5, slope / 2)
    w2 = _estimate(2 * (fourth * excess) ** 0.25, (bent + slope) / 4)
    mean = min(w1, w2, key=lambda bound: bound.value or 0.0)
    return {ALL: mean, "mean": mean, "sd": w2, "W₁": w1, "W₂": w2}


def _too_heavy(log_w: np.ndarray) -> str:
    """Why there is no bound, or "": E_q[w²] exists below k̂ = 1/2, its standard error below 1/4."""
    khat = pareto_khat(log_w)
    if khat >= 1 / 2:
        return f"there is no bound: the weights have no variance, k̂ = {khat:.2f}"
    if khat >= 1 / 4:
        return f"the bound has no standard error: k̂ of the weights = {khat:.2f}, it ends at 1/4"
    return "the tail of the weights could not be fitted" if np.isnan(khat) else ""


def _heaviest(evidence: Evidence) -> tuple[float, np.ndarray]:
    """E z⁴ of the standardised margin where it is largest, and the relative influence of
    each draw on it (n,)."""
    z = max((_standard(x) for x in evidence.q.margins().values()), key=_fourth)
    fourth, skew = _fourth(z), float((z**3).mean())
    if not fourth > 0:
        return 0.0, np.zeros_like(z)
    # Mean and sd are estimated from the same draws.
    return fourth, (z**4 - fourth - 4 * skew * z - 2 * fourth * (z**2 - 1)) / fourth


def _standard(x: np.ndarray) -> np.ndarray:
    return (x - x.mean()) / (x.std() or 1.0)


def _fourth(z: np.ndarray) -> float:
    square = z * z
    return float(square @ square / z.size)


def _estimate(value: float, relative: np.ndarray) -> Estimate:
    """A bound with the relative influence of each draw on it (n,)."""
    error = value * float(relative.std(ddof=1)) / np.sqrt(relative.size)
    return Estimate(value, float(error), "sd", relative.size)
