"""What a fit costs in prediction: elpd that it loses to the reference."""

from vi_compare.evidence import About, Estimate, Evidence, MetricKind

ABOUT = About(
    name="elpd loss",
    meaning="Σ KL(p(ỹ | y) ‖ q(ỹ)): log density that q loses in predicting new data like the old.",
    kind=MetricKind.SMALLER,
    unit="nats",
    perfect=0.0,
    good=0.5,
    near=4.0,
    heading="elpd",
    below="lost, nats",
)


def measure(evidence: Evidence) -> dict[str, Estimate]:
    return dict(evidence.elpd_loss)
