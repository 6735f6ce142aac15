"""What to use for what, said before anything else: from the evidence, with what it rests on.

Every use is decided by one number, and by a second one that the first is blind to.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from vi_compare import formatting
from vi_compare.report.choosing import Ranking, Runner, Said, rank
from vi_compare.report.view import FitView, View
from vi_compare.verdict import Concern


@dataclass(frozen=True)
class Use:
    """Something to use a fit for.

    Attributes:
        words: "For intervals".
        by: fits are ranked by; its `shown` is a sentence around {value}.
        judged: the metric whose mark says whether the best is good enough.
        blind: what the ranking does not see; a fit with a ✗ for one of them does not qualify.
        otherwise: what to do where no fit will do.
        evidence: key of the section where the numbers stand.
        short: the same as `by`, said of a fit that will not do; by default in the same words.
        beside: what else is said of the best.
        one_mode: what the ranking does not see, too, where the target has a single mode.
        margins: whether it rests on margins: then on those that a study judges by, where it
            names some, and what is missed of the whole is no matter.
        instead_of: a metric; the use is left out where that is known.
        excused: a metric and the value from which on what it is judged by is no matter.
    """

    words: str
    by: Said
    judged: str
    blind: tuple[Said, ...]
    otherwise: str
    evidence: str
    short: Said | None = None
    beside: Said | None = None
    one_mode: tuple[Said, ...] = ()
    margins: bool = False
    instead_of: str = ""
    excused: tuple[str, float] | None = None


MISSED = Said("missed_mass", "{value} of the target lies where {it} {has} almost nothing")
INVENTED = Said("invented_mass", "{value} of {its} draws lie where the target has almost nothing")
USES = (
    Use(
        "For intervals",
        Said("coverage", "{its} 90 % intervals hold {value} of the target in the worst case"),
        "coverage", (MISSED,),
        "a more flexible guide (correlated, more components, a flow) is the next thing to try",
        "risk",
        margins=True,
    ),
    Use(
        "For prediction",
        Said("elpd_loss", "{it} {has} {value} nats less elpd than the target"),
        "elpd_loss", (),
        "weight its draws where k̂ allows it, or predict from the reference",
        "predictions",
    ),
    Use(
        "For probabilities",
        Said("total_variation", "no probability computed from {its} draws is off by more than "
             "{value}"),
        "total_variation", (),
        "average over reweighted draws where k̂ allows it, or over the reference",
        "numbers",
        short=Said("total_variation", "a probability computed from {its} draws can be off by "
                   "{value}"),
        instead_of="elpd_loss",
    ),
    Use(
        "For importance sampling",
        Said("ess", "{its} draws are worth {value} of their number"),
        "khat", (MISSED,),
        "a more flexible guide, or one with heavier tails, makes a better proposal",
        "weights",
        beside=Said("khat", "k̂ = {value}"),
        # The largest of weights that are all but equal have a tail, and it does not matter.
        excused=("ess", 0.99),
    ),
    Use(
        "To describe one mode",
        Said("reverse_kl", "the lowest KL(q‖p), {value} nats"),
        "invented_mass", (INVENTED,),
        "a more flexible guide makes up less",
        "risk",
        beside=replace(INVENTED, shown=f"and only {INVENTED.shown}"),
        one_mode=(MISSED,),
    ),
)  # fmt: skip


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


def question(view: View) -> str:
    """What the advice answers, with the doubt that it rests on."""
    under = ", should the reference be right after all" if view.doubts else ""
    return f"Which fit to use{under}"


def advice(view: View) -> list[Advice]:
    """One entry for each use that anything is known of; none without a reference, or where it
    is known to be wrong."""
    if not view.has_reference or any(d.kind == Concern.REFUTED for d in view.doubts):
        return []
    return [one for use in USES if (one := _narrowed(view, use))]


def _narrowed(view: View, use: Use) -> Advice | None:
    """The advice, by the margins that the study judges by where it is about margins."""
    if not (view.judged and use.margins):
        return _advise(view, use)
    of = f"{use.words} of {view.judged_names}"
    return _advise(view.narrowed(use.judged), replace(use, words=of, blind=()))


def _advise(view: View, use: Use) -> Advice | None:
    alive = [fit for fit in view.fits if not fit.failed]
    if any(fit.reading(use.instead_of).value is not None for fit in alive):
        return None
    known = rank(alive, use.by)
    if known is None:
        return None
    fine = [fit for fit in alive if not _unseen(view, use, fit) and _mark(use, fit) != "bad"]
    found = rank(fine, use.by)
    return _none(view, use, known.safest[0]) if found is None else _some(view, use, found)


def _mark(use: Use, fit: FitView) -> str:
    """Of the metric that a fit is judged by for the use."""
    if use.excused:
        metric, enough = use.excused
        if (fit.reading(metric).value or 0.0) >= enough:
            return "good"
    return fit.reading(use.judged).mark


def _some(view: View, use: Use, found: Ranking, most_named: int = 2) -> Advice:
    """The safest fit, and up to `most_named` in all that are as good; more are counted."""
    best = found.safest[0].fit
    named = tuple(r.fit for r in found.safest[:most_named])
    many = len(found.safest) > 1
    told = [said.text(best, many) for said in (use.by, use.beside) if said]
    apart = "; they are not told apart within error" if many else ""
    why = f"{', '.join(filter(None, told))}{apart}."
    mark = _mark(use, best) if view.confirms else ""
    return Advice(use.words, mark, named, len(found.safest) - len(named), why, use.evidence)


def _none(view: View, use: Use, nearest: Runner) -> Advice:
    told = [(use.short or use.by).text(nearest.fit)]
    judged = use.beside if use.beside and use.beside.metric == use.judged else None
    told += [judged.text(nearest.fit)] if judged and _mark(use, nearest.fit) == "bad" else []
    said = ", ".join(filter(None, told))
    if unseen := _unseen(view, use, nearest.fit):
        said = f"{said}, but {unseen[0].text(nearest.fit)}"
    why = f"the nearest is {formatting.quoted(nearest.fit.name)}: {said}; {use.otherwise}."
    return Advice(use.words, "bad" if view.confirms else "", (), 0, why, use.evidence)


def _unseen(view: View, use: Use, fit: FitView) -> list[Said]:
    """What is ✗ that the ranking is blind to."""
    blind = (*use.blind, *(use.one_mode if len(view.modes) == 1 else ()))
    return [said for said in blind if fit.reading(said.metric).mark == "bad"]
