"""What chains from a fit's own draws tell, where no finished reference does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from vi_compare.estimate import ALL, About, Bound, Estimate, worst
from vi_compare.evidence import Draws, Evidence
from vi_compare.metrics import mean_shift, width_ratio
from vi_compare.reference.drift import Drift
from vi_compare.run.judging import only
from vi_compare.verdict import Drifts, Scores

# Metrics of margins that a population of chains on its way can have.
METRICS = {"width_ratio": width_ratio, "mean_shift": mean_shift}


def of_drift(
    q: Draws,
    drift: Drift,
    scores: Scores,
    abouts: Mapping[str, About],
    judge: Sequence[str] = (),
) -> Drifts:
    """Of a fit with draws q and `scores` against the reference, if there is one; of all margins, or
    of those of some sites and quantities."""
    why = "of chains on their way log Z is not asked"
    evidence = Evidence(q, drift.now, drift.now, Estimate.missing(why, "nats"))
    evidence = only(evidence, judge) if judge else evidence
    moved = {name: metric.measure(evidence) for name, metric in METRICS.items()}
    return Drifts(moved, agreed(moved, scores, abouts), drift.chains, drift.iterations)


def agreed(own: Scores, reference: Scores, abouts: Mapping[str, About]) -> Scores:
    """For every margin the smaller of two faults that err to the same side, as a bound; a perfect
    value where they do not.

    Args:
        own: the fit against chains that began at its own draws.
        reference: the fit against a reference that has not settled.
    """
    return {
        metric: _worst_of(
            {
                label: _smaller(e, other, abouts[metric])
                for label, e in own[metric].items()
                if label != ALL and (other := reference.get(metric, {}).get(label))
            },
            abouts[metric],
        )
        for metric in own
    }


def _worst_of(by: Mapping[str, Estimate], about: About) -> dict[str, Estimate]:
    known = {label: e for label, e in by.items() if e.value is not None}
    return worst(known, about.badness)


def _smaller(one: Estimate, other: Estimate, about: About) -> Estimate:
    """With the larger of both errors."""
    if one.value is None or other.value is None:
        return Estimate.missing(one.reason or other.reason, one.unit)
    perfect = about.perfect or 0.0
    least = min((one, other), key=lambda e: about.badness(e.value or 0.0))
    error = max(one.standard_error or 0.0, other.standard_error or 0.0)
    if (one.value > perfect) != (other.value > perfect):
        return replace(least, value=perfect, standard_error=error)
    return replace(least, standard_error=error, bound=_bound(least.value or 0.0, about))


def _bound(value: float, about: About) -> Bound:
    """On which side the truth is: further from perfect."""
    return "least" if value > (about.perfect or 0.0) else "most"
