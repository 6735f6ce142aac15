"""Where draws of the target rank among draws of the fit: Kolmogorov-Smirnov distances."""

import numpy as np

from vi_compare.estimate import worst_few
from vi_compare.evidence import (
    ALL,
    NO_REFERENCE,
    About,
    Draws,
    Estimate,
    Evidence,
    MetricKind,
    effective,
)
from vi_compare.metrics._empirical import Gap, few_margins

ABOUT = About(
    name="PIT",
    meaning=(
        "Largest gap between the ranks of target draws, by log q among the fit's, and even ranks."
    ),
    kind=MetricKind.SMALLER,
    perfect=0.0,
)


def measure(evidence: Evidence) -> dict[str, Estimate]:
    test, q, floor = evidence.test, evidence.q, evidence.floor
    if test is None or floor is None:
        return {ALL: Estimate.missing(NO_REFERENCE)}
    fit, p, again = few_margins(evidence)
    values = {label: Gap.between(p[label], fit[label]).kolmogorov()[0] for label in p}
    least = lambda label: Gap.between(p[label], again[label]).kolmogorov()[0]
    by = worst_few(values, ABOUT.badness, lambda x: _distance(p[x], fit[x], test, q, least(x)))
    return by | {ALL: _joint(test, q)}


def _joint(test: Draws, q: Draws) -> Estimate:
    if test.log_q is None or q.log_q is None:
        return Estimate.missing(test.reason or q.reason)
    of_p, of_q = np.asarray(test.log_q), np.asarray(q.log_q)
    if not (np.isfinite(of_p).all() and np.isfinite(of_q).all()):
        return Estimate.missing("log q is not finite at some draws")
    return _distance(of_p, of_q, test, q)


def _distance(
    x: np.ndarray, y: np.ndarray, test: Draws, fit: Draws, floor: float | None = None
) -> Estimate:
    """sup |F − G|, with the error of F − G at that place."""
    value, where = Gap.between(x, y).kolmogorov()
    below = (x <= where, test.chains), (y <= where, fit.chains)
    worth = [effective(hits.astype(float), chains) for hits, chains in below]
    shares = [Estimate.share(b[0], effective=n) for b, n in zip(below, worth, strict=True)]
    error = np.linalg.norm([share.standard_error or 0.0 for share in shares])
    if floor is None:
        # The mean of Kolmogorov's distribution, of √n sup |F − G| for two samples of one law.
        mean = np.sqrt(np.pi / 2) * np.log(2)
        floor = float(mean * np.sqrt(1 / worth[0] + 1 / worth[1]))
    return Estimate(value, float(error), "1", y.size, floor)
