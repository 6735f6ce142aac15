"""Standard deviations of two samples of one margin, compared."""

from __future__ import annotations

import numpy as np

from vi_compare.evidence import Draws, Estimate
from vi_compare.metrics._quantiles import has_variance, middle


def ratio(q: np.ndarray, p: np.ndarray, fit: Draws, test: Draws) -> Estimate:
    """sd of q (n,) ÷ sd of p (m,), draws of `fit` and `test`. Where the target's sd does not
    exist, 16-84 % ranges take the place of both."""
    spread = sd if has_variance(p) else _range
    (top, top_error), (bottom, bottom_error) = spread(q, fit), spread(p, test)
    found, relative = top / bottom, float(np.hypot(top_error, bottom_error))
    return Estimate(found, found * relative, "1", q.size, 1.0)


def sd(x: np.ndarray, draws: Draws) -> tuple[float, float]:
    """A standard deviation and its relative standard error, √((kurtosis − 1) / 4n)."""
    z = (x - x.mean()) / (x.std() or 1.0)
    error = np.sqrt(max(0.0, (z**4).mean() - 1) / (4 * draws.effective(z**2)))
    return float(x.std(ddof=1)), float(error)


def _range(x: np.ndarray, draws: Draws) -> tuple[float, float]:
    """Half the 16-84 % range and its relative standard error."""
    *_, half, error = middle(x, draws)
    return half, error / half if half > 0 else 0.0
