"""The evidence upper bound."""

from vi_compare.evidence import ALL, NO_REFERENCE, Estimate, Evidence


def measure(evidence: Evidence) -> dict[str, Estimate]:
    """EUBO = E_p[log p̃ − log q], at least log Z; comparable between fits of one target."""
    test = evidence.test
    if test is None:
        return {ALL: Estimate.missing(NO_REFERENCE, "nats")}
    if test.log_p is None or test.log_q is None:
        return {ALL: Estimate.missing(test.reason, "nats")}
    bound = test.log_p - test.log_q
    return {ALL: Estimate.mean(bound, "nats", effective=test.effective(bound))}
