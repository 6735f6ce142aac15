"""Leaving observations out by importance weights (PSIS-LOO; Vehtari, Gelman & Gabry 2017; with
draws of an approximation, Magnusson et al. 2019). The smoothing is ArviZ's."""

from __future__ import annotations

import numpy as np
from scipy.special import logsumexp

from vi_compare.estimate import Estimate
from vi_compare.predictions.observed import Observed, Pointwise
from vi_compare.psis import khat_limit, smoothed


class LeftOut:
    """Each of a site's observations, left out in turn.

    Attributes:
        site: which; log_weights: (n, draws), normalised, of draws where one is left out.
        elpd: (n,) log predictive density of each by the rest, nats.
        khat: (n,) Pareto k̂ of the weights.
    """

    def __init__(self, site: Observed, at: Pointwise, log_ratio: np.ndarray | None = None):
        """`log_ratio` (draws,): log p̃ − log q; None of draws of the target."""
        log_lik = np.asarray(at.log_lik, float).T
        plain = 0.0 if log_ratio is None else log_ratio
        found = [smoothed(plain - row) for row in log_lik]
        self.site = site
        self.log_weights = np.stack([weights for weights, _ in found])
        self.khat = np.array([khat for _, khat in found])
        self.elpd = logsumexp(self.log_weights + log_lik, axis=1)

    @property
    def total(self) -> Estimate:
        """Of all observations, in nats; the error is that of a sum over observations which might
        have been others (√n times their standard deviation, as ArviZ has it)."""
        n, of = self.elpd.size, self.site.of
        error = of * float(self.elpd.std(ddof=1)) / np.sqrt(n)
        return Estimate(of / n * float(self.elpd.sum()), error, "nats", n)

    @property
    def influential(self) -> np.ndarray:
        """(n,) whether weights cannot leave it out: their tail is too heavy, and they do differ."""
        draws = self.log_weights.shape[1]
        worth = np.exp(-logsumexp(2 * self.log_weights, axis=1)) / draws
        return (self.khat > khat_limit(draws)) & (worth < 0.95)


def total(sites: list[LeftOut]) -> Estimate:
    """elpd of all sites together, in nats."""
    parts = [site.total for site in sites]
    error = float(np.sqrt(sum((part.standard_error or 0.0) ** 2 for part in parts)))
    return Estimate(sum(part.value or 0.0 for part in parts), error, "nats", sum(
        part.n or 0 for part in parts))  # fmt: skip


def why_not(at: Pointwise) -> str:
    """Why nothing can be said of a site at these draws; "" where all can be."""
    bad = int((~np.isfinite(at.log_lik)).any(axis=1).sum())
    return f"at {bad} of {len(at.log_lik)} draws its likelihood is not finite" if bad else ""
