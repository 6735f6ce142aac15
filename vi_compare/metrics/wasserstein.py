"""Wasserstein distances of the margins."""

import numpy as np

from vi_compare.estimate import worst_few
from vi_compare.evidence import ALL, NO_REFERENCE, About, Estimate, Evidence, MetricKind
from vi_compare.evidence import effective as worth
from vi_compare.metrics._empirical import Gap, few_margins

ABOUT = About(
    name="W₁",
    meaning="W₁ = ∫ |F_p − F_q| ÷ sd of p, per margin; the headline is the largest.",
    kind=MetricKind.SMALLER,
    unit="sd",
    perfect=0.0,
    heading="W₁",
    below="÷ sd",
)


def measure(evidence: Evidence) -> dict[str, Estimate]:
    test, floor = evidence.test, evidence.floor
    if test is None or floor is None:
        return {ALL: Estimate.missing(NO_REFERENCE, "sd")}
    q, p, again = few_margins(evidence)
    sd = {label: p[label].std(ddof=1) for label in p}
    values = {x: Gap.between(p[x], q[x]).wasserstein() / sd[x] for x in p}

    def estimate(label: str) -> Estimate:
        of_p, of_q = Gap.between(p[label], q[label]).potential()
        variance = of_p.var() / worth(of_p, test.chains) + of_q.var() / worth(
            of_q, evidence.q.chains
        )
        floor = Gap.between(p[label], again[label]).wasserstein() / sd[label]
        error = float(np.sqrt(variance) / sd[label])
        return Estimate(float(values[label]), error, "sd", of_q.size, float(floor))

    return worst_few(values, ABOUT.badness, estimate)
