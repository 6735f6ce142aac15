"""χ²(p‖q): the variance of the importance weights."""

from dataclasses import replace

import numpy as np

from vi_compare.evidence import ALL, NO_REFERENCE, About, Estimate, Evidence, MetricKind
from vi_compare.psis import pareto_khat

ABOUT = About(
    name="χ²",
    meaning="χ²(p‖q) = E_p[p/q] − 1 = E_q[(p/q)²] − 1, the variance of the importance weights.",
    kind=MetricKind.SMALLER,
    heading="χ²",
    perfect=0.0,
)


def measure(evidence: Evidence) -> dict[str, Estimate]:
    return {ALL: _measure(evidence)}


def _measure(evidence: Evidence) -> Estimate:
    test, log_z = evidence.test, evidence.log_z
    if test is None:
        return Estimate.missing(NO_REFERENCE)
    (under_p, why_p), (under_q, why_q) = test.log_ratio(), evidence.q.log_ratio()
    if under_p is None or under_q is None or log_z.value is None:
        return Estimate.missing(why_p or why_q or log_z.reason)
    if reason := _too_heavy(under_p, under_q):
        return Estimate.missing(reason)
    with np.errstate(over="ignore"):  # a mean that is not finite is missing
        weights = np.exp(under_p - log_z.value)
    found = Estimate.mean(weights, effective=test.effective(weights))
    if found.value is None:
        return found
    # An error of log Z scales all weights together.
    error = np.hypot(found.standard_error or 0.0, found.value * (log_z.standard_error or 0.0))
    return replace(found, value=found.value - 1, standard_error=float(error))


def _too_heavy(under_p: np.ndarray, under_q: np.ndarray) -> str:
    """Why the mean of the weights would say nothing, or ""; draws of p see what q never visits.

    Weights whose tail has shape k under q have shape k/(1 − k) under p, so that E_p[w] exists
    below k = 1/2, and has a standard error below 1/3.
    """
    of_p = pareto_khat(under_p)
    khat = max(pareto_khat(under_q), of_p / (1 + of_p) if of_p > 0 else of_p)
    if khat >= 1 / 2:
        return f"the weights have no variance: k̂ = {khat:.2f}, and it ends at 0.5"
    if khat >= 1 / 3:
        return f"it has no standard error: k̂ of the weights = {khat:.2f}, and it ends at 1/3"
    return "the tail of the weights could not be fitted" if np.isnan(khat) else ""
