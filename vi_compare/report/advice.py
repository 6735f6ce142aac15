"""What to use for what, said before anything else: from the evidence, with what it rests on.

Every use is decided by one number, and by a second one that the first is blind to.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from vi_compare import formatting
from vi_compare.report.choosing import Ranking, Runner, Said, rank
from vi_compare.report.view import FitView, View


@dataclass(frozen=True)
class Use:
    """Something to use a fit for.

    Attributes:
        words: "For intervals".
        by: fits are ranked by; its `shown` is a sentence around {value}.
        judged: the metric whose mark says whether the best is good enough.
        blind: what the ranking does not see; a fit whose mark there is ✗ does not qualify.
        beside: what else is said of the best.
        otherwise: what to do where no fit will do.
        evidence: key of the section where the numbers stand.
    """

    words: str
    by: Said
    judged: str
    blind: Said | None
    beside: Said | None
    otherwise: str
    evidence: str


def _uses() -> tuple[Use, ...]:
    missed = Said("missed_mass", "{value} of the target lies where it has almost nothing")
    invented = Said("invented_mass", "{value} of its draws lie where the target has almost nothing")
    return (
        Use(
            "For intervals",
            Said("coverage", "its 90 % intervals hold {value} of the target in the worst case"),
            "coverage", missed, None,
            "a more flexible guide (correlated, more components, a flow) is the next thing to try",
            "risk",
        ),
        Use(
            "For prediction",
            Said("total_variation", "no probability computed from its draws is off by more than "
                 "{value}"),
            "total_variation", None, None,
            "average over reweighted draws where k̂ allows it, or over the reference",
            "numbers",
        ),
        Use(
            "For importance sampling",
            Said("khat", "k̂ = {value}"),
            "khat", missed, Said("ess", "and its draws are worth {value} of their number"),
            "a more flexible guide, or one with heavier tails, makes a better proposal",
            "weights",
        ),
        Use(
            "To describe one mode",
            Said("reverse_kl", "the lowest KL(q‖p), {value} nats"),
            "invented_mass", invented, replace(invented, shown=f"and only {invented.shown}"),
            "a more flexible guide makes up less",
            "risk",
        ),
    )  # fmt: skip


USES = _uses()


@dataclass(frozen=True)
class Advice:
    """One use and the fit for it.

    Attributes:
        use: what for.
        mark: ✓, ! or ✗ of the number that decides; "" where nothing can be confirmed.
        fits: to use; as good as the first within error.
        more: how many more are as good.
        why: a sentence.
        evidence: key of the section with the numbers.
    """

    use: str
    mark: str
    fits: tuple[FitView, ...]
    more: int
    why: str
    evidence: str

    @property
    def text(self) -> str:
        """In one line, for a terminal."""
        named = formatting.listed([fit.name for fit in self.fits]) or "none"
        more = f" and {formatting.words(self.more)} more" if self.more else ""
        return f"{self.use}: {named}{more}: {self.why}"


def advice(view: View) -> list[Advice]:
    """One entry for each use that anything is known of; none without a reference."""
    if not view.has_reference:
        return []
    return [one for use in USES if (one := _advise(view, use))]


def _advise(view: View, use: Use) -> Advice | None:
    alive = [fit for fit in view.fits if not fit.failed]
    known = rank(alive, use.by)
    if known is None:
        return None
    found = rank([fit for fit in alive if not _disqualified(use, fit)], use.by)
    if found is None or found.safest[0].fit.reading(use.judged).mark == "bad":
        return _none(view, use, (found or known).safest[0])
    return _some(view, use, found)


def _some(view: View, use: Use, found: Ranking, most_named: int = 2) -> Advice:
    """The safest fit, and up to `most_named` in all that are as good; more are counted."""
    best = found.safest[0]
    named = tuple(r.fit for r in found.safest[:most_named])
    said = ", ".join(filter(None, [best.shown, use.beside.text(best.fit) if use.beside else ""]))
    apart = "; they are not told apart within error" if len(found.safest) > 1 else ""
    mark, why = best.fit.reading(use.judged).mark if view.confirms else "", f"{said}{apart}."
    return Advice(use.words, mark, named, len(found.safest) - len(named), why, use.evidence)


def _none(view: View, use: Use, nearest: Runner) -> Advice:
    said = nearest.shown
    if use.blind and _disqualified(use, nearest.fit):
        said = f"{said}, but {use.blind.text(nearest.fit)}"
    why = f"the nearest is {formatting.quoted(nearest.fit.name)}: {said}; {use.otherwise}."
    return Advice(use.words, "bad" if view.confirms else "", (), 0, why, use.evidence)


def _disqualified(use: Use, fit: FitView) -> bool:
    return use.blind is not None and fit.reading(use.blind.metric).mark == "bad"
