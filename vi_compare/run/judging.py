"""Verdicts that rest on what a study asks of the posterior, and on nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from vi_compare import formatting
from vi_compare.evidence import Draws, Evidence
from vi_compare.verdict import RULES, Verdict, Word

# Metrics of margins and of pairs; the others are of the whole, whatever is asked of it.
JUDGED = ("width_ratio", "mean_shift", "correlation", "tail_mass")
JUDGING = tuple(rule for rule in RULES if rule.metric in JUDGED)


def only(evidence: Evidence, names: Sequence[str]) -> Evidence:
    """The same evidence with the margins of some sites and quantities alone."""
    few = lambda draws: None if draws is None else _only(draws, names)
    return replace(
        evidence, q=_only(evidence.q, names), test=few(evidence.test), floor=few(evidence.floor)
    )


def _only(draws: Draws, names: Sequence[str]) -> Draws:
    return replace(draws, values={name: draws.values[name] for name in names})


def judged_by(verdict: Verdict, whole: Verdict, names: Sequence[str]) -> Verdict:
    """The verdict on some margins, and what is found elsewhere behind it."""
    by = formatting.listed(list(names))
    said = {verdict.word, *verdict.also}
    faults = {rule.word for rule in RULES}
    rest = [w for w in (whole.word, *whole.also) if w not in said and w in faults]
    reasons = (*verdict.reasons, f"Judged by {by} alone.")
    if rest and not whole.vague:
        reasons += (f"Found elsewhere, and not counted: {formatting.listed(rest)}.",)
    use_for, step = f"{verdict.use_for} (of {by})", verdict.next_step
    if verdict.word == Word.FAITHFUL:  # whatever the whole is
        use_for, step = f"its draws of {by} can be used directly", "nothing needs doing"
    return replace(verdict, reasons=reasons, use_for=use_for, next_step=step)
