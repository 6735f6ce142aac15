"""Errors of the correlations between margins."""

import numpy as np

from vi_compare.evidence import ALL, NO_REFERENCE, Estimate, Evidence, margins

MOST_MARGINS = 200


def measure(evidence: Evidence) -> dict[str, Estimate]:
    """Correlation under q − under p, of the pair where it is furthest off."""
    if evidence.test is None:
        return {ALL: Estimate.missing(NO_REFERENCE)}
    p, q = margins(evidence.test.values), margins(evidence.q.values)
    labels = [label for label in p if p[label].std() > 0 and q[label].std() > 0]
    if len(labels) < 2:
        return {ALL: Estimate.missing("there is one margin, so nothing to correlate")}
    if len(labels) > MOST_MARGINS:
        return {ALL: Estimate.missing(f"there are more than {MOST_MARGINS} margins")}
    r_p, r_q = (np.corrcoef([x[label] for label in labels]) for x in (p, q))
    i, j = np.unravel_index(np.argmax(np.triu(abs(r_q - r_p), 1)), r_p.shape)
    n = q[labels[0]].size
    # Of a correlation of n draws: (1 − r²)/√n, exact for Gaussian margins.
    error = float(np.hypot(1 - r_q[i, j] ** 2, 1 - r_p[i, j] ** 2) / np.sqrt(n))
    found = Estimate(float(r_q[i, j] - r_p[i, j]), error, "1", n)
    return {ALL: found, f"{labels[i]}, {labels[j]}": found}
