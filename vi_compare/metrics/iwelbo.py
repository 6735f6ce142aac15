"""The importance-weighted evidence lower bound (Burda et al. 2016)."""

from dataclasses import replace

import numpy as np

from vi_compare.evidence import ALL, About, Estimate, Evidence, MetricKind

ABOUT = About(
    name="importance-weighted ELBO",
    meaning=(
        "E_q[log of the mean of 10 weights p̃/q], between ELBO and log Z: what reweighting gains."
    ),
    kind=MetricKind.LARGER,
    unit="nats",
)


def measure(evidence: Evidence, block: int = 10) -> dict[str, Estimate]:
    """`block`: weights that are averaged before the logarithm is taken."""
    log_w, reason = evidence.q.log_ratio()
    if log_w is None:
        return {ALL: Estimate.missing(reason, "nats")}
    blocks = log_w.size // block
    if blocks < 2:
        return {ALL: Estimate.missing(f"fewer than {2 * block} draws", "nats")}
    rows = log_w[: blocks * block].reshape(blocks, block)
    found = Estimate.mean(np.logaddexp.reduce(rows, axis=1) - np.log(block), "nats")
    return {ALL: replace(found, n=rows.size)}
