"""Pareto k̂ of the importance weights p/q (Vehtari et al. 2024)."""

import numpy as np

from vi_compare.evidence import ALL, About, Estimate, Evidence, MetricKind
from vi_compare.psis import NO_TAIL, khat_error, pareto_khat

ABOUT = About(
    name="k̂",
    meaning=(
        "Pareto k̂ of the weights p/q on draws of q: below min(1 − 1/log10 S, 0.7) they can be used."
    ),
    kind=MetricKind.SMALLER,
    heading="k̂",
    good=0.5,
    near=0.7,
)


def measure(evidence: Evidence) -> dict[str, Estimate]:
    log_weights, reason = evidence.q.log_ratio()
    if log_weights is None:
        return {ALL: Estimate.missing(reason)}
    n, khat = log_weights.size, pareto_khat(log_weights)
    if khat == -np.inf:
        return {ALL: Estimate.missing(NO_TAIL)}
    if not np.isfinite(khat):
        return {ALL: Estimate.missing("the tail of the weights could not be fitted")}
    return {ALL: Estimate(khat, khat_error(khat, n), "1", n)}
