"""No fit is called converged before it was asked what it has left to gain."""

from __future__ import annotations

from dataclasses import dataclass, replace

from vi_compare.approximation import GuideApproximation
from vi_compare.estimate import Estimate
from vi_compare.evidence import Draws
from vi_compare.formatting import plain
from vi_compare.gaussian.natural_gradient import ENOUGH
from vi_compare.randomness import MOST, split
from vi_compare.solvers import Fit, Problem
from vi_compare.solvers._left_to_gain import Left, left_to_gain
from vi_compare.verdict import Status


@dataclass(frozen=True)
class Certainty:
    """When an answer counts.

    Attributes:
        errors: standard errors of the gain that a word must allow for.
        vague: such an allowance in nats that leaves it open whether a fit has converged.
    """

    errors: float = 2.0
    vague: float = 2 * ENOUGH


def asked(
    problem: Problem, fit: Fit, held_out: Draws | None = None, certainty: Certainty = Certainty()
) -> Fit:
    """The fit with the word that it has earned.

    A solver's own word stands where it has found out what is left (`Fit.left`), and where it
    says itself that it has not arrived.

    Args:
        held_out: draws of the target that judge a fit to others.
    """
    q = fit.approximation
    if not isinstance(q, GuideApproximation) or fit.status not in (
        Status.CONVERGED,
        Status.UNKNOWN,
    ):
        return fit
    # A Gaussian at a mode is where it is meant to be, which is no optimum of a divergence.
    aims = fit.optimises_divergence and not q.family.sits_at_a_mode
    if problem.divergence is None or not aims:
        return replace(fit, remedy="")
    if fit.left is not None:
        return _by_itself(fit, fit.left)
    problem.progress(1, 1, "what is left to gain")
    key = split(problem.key, MOST)[-1]
    answer = left_to_gain(problem.divergence, q, key, held_out)
    return _judged(fit, answer, certainty)


def _by_itself(fit: Fit, left: Estimate) -> Fit:
    """The fit by what its solver has found to be left."""
    value = left.value or 0.0
    if fit.status is Status.CONVERGED and value > ENOUGH:
        found = f"about {plain(value, 2)} nats are left to gain; {fit.message}"
        return replace(fit, status=Status.NOT_CONVERGED, message=found)
    return replace(fit, remedy="") if fit.status is Status.CONVERGED else fit


def _judged(fit: Fit, answer: Left, certainty: Certainty) -> Fit:
    left, cost = answer.left, fit.cost + answer.cost
    if left.value is None:
        message = f"{fit.message}; what is left to gain cannot be asked: {left.reason}"
        return replace(fit, status=Status.UNKNOWN, message=message, cost=cost, left=left)
    sure = certainty.errors * (left.standard_error or 0.0)
    status, found = _word(fit.status, left, sure, certainty)
    return replace(
        fit,
        status=status,
        message=f"{found}; {fit.message}",
        remedy="" if status is Status.CONVERGED else fit.remedy,
        cost=cost,
        left=left,
        settings=(fit.settings or {}) | {"nats_left": left.value},
    )


def _word(said: Status, left: Estimate, sure: float, certainty: Certainty) -> tuple[Status, str]:
    """How the fit ended, and what was found, in words."""
    value = left.value or 0.0
    most = max(0.0, value) + sure
    if value - sure > ENOUGH:
        return Status.NOT_CONVERGED, f"about {plain(value, 2)} nats are left to gain"
    found = f"a search from its end gains at most {plain(max(most, 1e-4), 1)} nats"
    if sure > certainty.vague or (said is Status.UNKNOWN and most >= ENOUGH):
        return Status.UNKNOWN, found
    return Status.CONVERGED, found
