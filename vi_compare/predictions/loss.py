"""What predictions lose that are made by a fit and not by the target.

Each observation might have come out otherwise: as the target predicts it, y~ from p(y~ | y). There
the log predictive density of the fit is below that of the target by KL(p(y~ | y) || q(y~)) on
average (the reference model of Piironen, Paasiniemi & Vehtari 2020). It takes no weights, so it
also holds for fits that importance weights cannot mend; those leave observations out of the target
whatever the fit, and would show no loss.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from vi_compare.estimate import ALL, Estimate
from vi_compare.predictions.observed import Observed


def loss(
    sites: Sequence[Observed], p: Mapping[str, np.ndarray], q: Mapping[str, np.ndarray]
) -> dict[str, Estimate]:
    """{site: nats lost at all its observations}, where there are several, and of `ALL`.

    Args:
        p, q: {site: log predictive density (r, n) of r replicates of n observations}.
    """
    terms = {site.name: _terms(q[site.name] - p[site.name]) for site in sites}
    out = {ALL: _sum(sites, terms)}
    if len(sites) > 1:
        out |= {site.name: _sum([site], terms) for site in sites}
    return out


def _terms(log_ratio: np.ndarray) -> np.ndarray:
    """Of mean KL(p || q) for draws of p: log p/q, plus q/p − 1, which is 0 on average and takes the
    noise out."""
    return np.expm1(log_ratio) - log_ratio


def _sum(sites: Sequence[Observed], terms: Mapping[str, np.ndarray]) -> Estimate:
    value, variance, n = 0.0, 0.0, 0
    rows = np.zeros(len(next(iter(terms.values()))))
    for site in sites:
        own = terms[site.name]
        scale, left = site.of / own.shape[1], 1 - own.shape[1] / site.of
        value += scale * float(own.mean(axis=0).sum())
        rows = rows + scale * own.sum(axis=1)
        # Some observations stand for all: their own part of the error.
        variance += site.of**2 / own.shape[1] * left * float(own.mean(axis=0).var())
        n += own.size
    variance += float(rows.var(ddof=1)) / len(rows)
    if not np.isfinite(value):
        return Estimate.missing("the fit gives no density to data that the target predicts", "nats")
    return Estimate(value, float(np.sqrt(variance)), "nats", n)
