"""Errors of the marginal means."""

import numpy as np

from vi_compare.evidence import (
    ALL,
    NO_REFERENCE,
    About,
    Draws,
    Estimate,
    Evidence,
    MetricKind,
    worst,
)
from vi_compare.metrics._quantiles import has_variance, middle

ABOUT = About(
    name="mean shift",
    meaning=(
        "(mean of q − mean of p) ÷ sd of p, worst margin; 0.3 is the "
        "bar of Baudart and Mandel (2021)."
    ),
    kind=MetricKind.SIGNED,
    unit="sd",
    perfect=0.0,
    good=0.1,
    near=0.3,
    heading="Mean",
    below="off ÷ sd",
)


def measure(evidence: Evidence) -> dict[str, Estimate]:
    """Where the target's sd does not exist, median and half the 16-84 % range take the place
    of mean and sd."""
    fit, test, floor = evidence.q, evidence.test, evidence.floor
    if test is None or floor is None:
        return {ALL: Estimate.missing(NO_REFERENCE, "sd")}
    q, p, again = evidence.margins
    by = {}
    for label in p:
        shift = _of_means if has_variance(p[label]) else _of_medians
        by[label] = shift(q[label], p[label], again[label], fit, test, floor)
    return worst(by, ABOUT.badness)


def _of_means(q, p, again, fit: Draws, test: Draws, floor: Draws) -> Estimate:
    sd = p.std(ddof=1)
    n_q, n_p = fit.effective(q), test.effective(p)
    error = np.sqrt(q.var(ddof=1) / n_q + p.var(ddof=1) / n_p) / sd
    lost = abs(again.mean() - p.mean()) / sd
    return Estimate(float((q.mean() - p.mean()) / sd), float(error), "sd", q.size, float(lost))


def _of_medians(q, p, again, fit: Draws, test: Draws, floor: Draws) -> Estimate:
    (at_q, error_q, *_), (at_p, error_p, sd, _) = middle(q, fit), middle(p, test)
    error = np.hypot(error_q, error_p) / sd
    lost = abs(middle(again, floor)[0] - at_p) / sd
    return Estimate((at_q - at_p) / sd, float(error), "sd", q.size, lost)
