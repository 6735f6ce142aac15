"""Pareto k̂ of what is averaged, not of the weights alone (Vehtari et al. 2024)."""

import numpy as np

from vi_compare.estimate import worst_few
from vi_compare.evidence import ALL, About, Estimate, Evidence, MetricKind
from vi_compare.psis import NO_TAIL, khat_error, pareto_khat, tail_khat

ABOUT = About(
    name="k̂ of a quantity",
    meaning=(
        "k̂ of w·x (mean) and w·x² (sd), x a centred margin, at least that of w; the worst margin."
    ),
    kind=MetricKind.SMALLER,
    heading="k̂ of a quantity",
)


def measure(evidence: Evidence) -> dict[str, Estimate]:
    log_w, reason = evidence.q.log_ratio()
    if log_w is None:
        return {ALL: Estimate.missing(reason)}
    least = pareto_khat(log_w)
    if least == -np.inf:
        return {ALL: Estimate.missing(NO_TAIL)}
    weights = np.exp(log_w - log_w.max())
    found: dict[str, float] = {}
    for label, x in evidence.q.margins().items():
        centred = x - weights @ x / weights.sum()
        found[f"the mean of {label}"] = _khat(weights * centred, "both", least)
        found[f"the sd of {label}"] = _khat(weights * centred**2, "right", least)
    known = {label: khat for label, khat in found.items() if np.isfinite(khat)}
    if not known:
        return {ALL: Estimate.missing("the tail of the weights could not be fitted")}
    n = log_w.size
    estimate = lambda label: Estimate(known[label], khat_error(known[label], n), "1", n)
    return worst_few(known, ABOUT.badness, estimate)


def _khat(x: np.ndarray, tail: str, least: float) -> float:
    """As ArviZ's loo_expectations has it; the weights alone decide where x does not vary."""
    return least if np.ptp(x) == 0 else float(np.fmax(tail_khat(x, tail), least))
