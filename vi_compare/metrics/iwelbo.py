"""The importance-weighted evidence lower bound (Burda et al. 2016)."""

from dataclasses import replace

import numpy as np

from vi_compare.evidence import ALL, Estimate, Evidence
from vi_compare.psis import log_ratio

BLOCK = 10


def measure(evidence: Evidence) -> dict[str, Estimate]:
    """E_q[log of the mean of 10 weights p̃/q], between ELBO and log Z: what reweighting gains."""
    log_w, reason = log_ratio(evidence.q)
    if log_w is None:
        return {ALL: Estimate.missing(reason, "nats")}
    blocks = log_w.size // BLOCK
    if blocks < 2:
        return {ALL: Estimate.missing(f"fewer than {2 * BLOCK} draws", "nats")}
    rows = log_w[: blocks * BLOCK].reshape(blocks, BLOCK)
    found = Estimate.mean(np.logaddexp.reduce(rows, axis=1) - np.log(BLOCK), "nats")
    return {ALL: replace(found, n=rows.size)}
