"""Forward KL in nats, on draws of the target that no fit has seen."""

from dataclasses import replace

from vi_compare.evidence import ALL, NO_REFERENCE, Estimate, Evidence


def measure(evidence: Evidence) -> dict[str, Estimate]:
    """KL(p‖q) = E_p[log p − log q]: nats lost per draw of the target coded by q."""
    test = evidence.test
    if test is None:
        return {ALL: Estimate.missing(NO_REFERENCE, "nats")}
    if test.log_p is None or test.log_q is None:
        return {ALL: Estimate.missing(test.reason, "nats")}
    cost = test.log_p - test.log_q
    kl = Estimate.mean(cost, "nats", plus=evidence.log_z.minus(), effective=test.effective(cost))
    return {ALL: replace(kl, floor=evidence.training_floor)}
