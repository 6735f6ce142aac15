"""Gaussianised symmetric KL, GsKL (Acerbi 2018, "Variational Bayesian Monte Carlo")."""

import numpy as np
from scipy import linalg

from vi_compare.evidence import ALL, NO_REFERENCE, About, Draws, Estimate, Evidence, MetricKind
from vi_compare.metrics._halves import first_half
from vi_compare.metrics._quantiles import has_variance

ABOUT = About(
    name="Gaussianised KL",
    meaning="½ (KL + reverse KL) of Gaussians with the moments of p and q over u: GsKL of VBMC.",
    kind=MetricKind.SMALLER,
    unit="nats",
    perfect=0.0,
    good=1 / 32,
    near=1 / 8,  # the papers' rule of thumb: means half an sd apart
    heading="GsKL",
    below="nats",
)


def measure(evidence: Evidence) -> dict[str, Estimate]:
    """Over u, whose covariance has an inverse also where values add up to one or are computed of
    each other."""
    test, floor, q = evidence.test, evidence.floor, evidence.q
    if test is None or floor is None:
        return {ALL: Estimate.missing(NO_REFERENCE, "nats")}
    for name, draws in (("target", test), ("fit", q), ("target", floor)):
        if reason := _no_moments(name, np.asarray(draws.u, float)):
            return {ALL: Estimate.missing(reason, "nats")}
    value, of_p, of_q = _unbiased(test, q)
    n, m = test.effective(of_p), q.effective(of_q)
    # At a perfect fit draws count by their products alone, one for every moment.
    moments = q.u.shape[1] * (q.u.shape[1] + 3) / 2
    error = max(np.sqrt(of_p.var() / n + of_q.var() / m), np.sqrt(moments) * (1 / n + 1 / m))
    least = _unbiased(test, floor)[0]
    return {ALL: Estimate(value, float(error), "nats", len(q), least)}


def _unbiased(p: Draws, q: Draws) -> tuple[float, np.ndarray, np.ndarray]:
    """`_divergence` without its bias, which is (d² + 3d)(1/n + 1/m)/4 at a perfect fit of a
    Gaussian by n and m draws: 1 nat for 200 dimensions and 20,000 draws. With half of the draws it
    is twice as large, by which it is known, for chains as well (Quenouille 1956)."""
    x, y = (np.asarray(draws.u, float) for draws in (p, q))
    mine, yours = (first_half(len(draws), draws.chains) for draws in (p, q))
    halves = [_divergence(x[a], y[b])[0] for a, b in ((mine, yours), (~mine, ~yours))]
    value, of_p, of_q = _divergence(x, y)
    return 2 * value - float(np.mean(halves)), of_p, of_q


def _no_moments(name: str, u: np.ndarray) -> str:
    """Why draws u (n, d) have no covariance with an inverse, or ""."""
    n, d = u.shape
    if n < 2 * (d + 2):
        return f"{n} draws of the {name} are too few for a covariance in {d} dimensions"
    if not all(has_variance(column) for column in u.T):
        return f"the {name} has no variance over u"
    if np.linalg.matrix_rank(np.cov(u.T)) < d:
        return f"the covariance of the {name} over u has no inverse"
    return ""


def _divergence(x: np.ndarray, y: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
    """Of x (n, d) and y (m, d), and by how much each draw of either (n,), (m,) moves it."""
    gap = y.mean(axis=0) - x.mean(axis=0)
    a, b = (np.atleast_2d(np.cov(z.T)) for z in (x, y))
    of_a, of_b = linalg.inv(a), linalg.inv(b)
    slope = (of_a + of_b) @ gap / 2
    traces = np.sum(of_b * a) + np.sum(of_a * b) - 2 * len(gap)
    of_x = _influence(x - x.mean(axis=0), of_a, of_b, b, gap, -slope)
    of_y = _influence(y - y.mean(axis=0), of_b, of_a, a, gap, slope)
    return float(traces / 4 + gap @ slope / 2), of_x, of_y


def _influence(off, own, other, theirs, gap, slope) -> np.ndarray:
    """First-order effect (n,) of draws that are `off` (n, d) their mean, through mean and
    covariance; `own` and `other` are the precisions, `theirs` the other side's covariance."""
    pull = other - own @ (theirs + np.outer(gap, gap)) @ own
    return np.sum(off @ pull * off, axis=1) / 4 + off @ slope
