"""The evidence lower bound."""

from vi_compare.evidence import ALL, Estimate, Evidence


def measure(evidence: Evidence) -> dict[str, Estimate]:
    """ELBO = E_q[log p̃ − log q], at most log Z; comparable between fits of one target."""
    q = evidence.q
    if q.log_p is None or q.log_q is None:
        return {ALL: Estimate.missing(q.reason, "nats")}
    return {ALL: Estimate.mean(q.log_p - q.log_q, "nats")}
