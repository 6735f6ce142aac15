"""Errors of the rank correlations (Spearman) between margins."""

import numpy as np
from scipy.stats import rankdata

from vi_compare.evidence import (
    ALL,
    NO_REFERENCE,
    About,
    Draws,
    Estimate,
    Evidence,
    MetricKind,
)

ABOUT = About(
    name="correlation",
    meaning="Rank correlation under q − under p, of the pair where it is furthest off.",
    kind=MetricKind.SIGNED,
    perfect=0.0,
    good=0.05,
    near=0.15,
)


def measure(evidence: Evidence, most_margins: int = 200) -> dict[str, Estimate]:
    """`most_margins`: with more, the pairs are too many to look at each."""
    if evidence.test is None:
        return {ALL: Estimate.missing(NO_REFERENCE)}
    q, p, _ = evidence.margins
    labels = [label for label in p if q[label].std() > 0]
    if len(labels) < 2:
        return {ALL: Estimate.missing("there is one margin, so nothing to correlate")}
    if len(labels) > most_margins:
        return {ALL: Estimate.missing(f"there are more than {most_margins} margins")}
    # Ranks: a correlation of heavy-tailed draws is that of a few of them.
    p, q = ({label: rankdata(x[label]) for label in labels} for x in (p, q))
    r_p, r_q = (np.corrcoef([x[label] for label in labels]) for x in (p, q))
    i, j = np.unravel_index(np.argmax(np.triu(abs(r_q - r_p), 1)), r_p.shape)
    n = q[labels[0]].size
    pair = labels[i], labels[j]
    error = np.hypot(
        _error(float(r_q[i, j]), _effective(evidence.q, q, pair)),
        _error(float(r_p[i, j]), _effective(evidence.test, p, pair)),
    )
    pairs = len(labels) * (len(labels) - 1) // 2
    found = Estimate(float(r_q[i, j] - r_p[i, j]), float(error), "1", n, worst_of=pairs)
    return {ALL: found, f"{labels[i]}, {labels[j]}": found}


def _error(r: float, n: float) -> float:
    """Standard error of a rank correlation of n draws (Bonett and Wright 2000)."""
    return (1 - r**2) * float(np.sqrt((1 + r**2 / 2) / n))


def _effective(draws: Draws, by: dict[str, np.ndarray], pair: tuple[str, str]) -> float:
    """Of the product of the two standardised margins, whose mean the correlation is."""
    x, y = ((by[label] - by[label].mean()) / by[label].std() for label in pair)
    return draws.effective(x * y)
