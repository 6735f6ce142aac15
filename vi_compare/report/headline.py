"""The answer in sentences, built from verdicts and published figures alone.

Every sentence is true for any results: what is not known is not said.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from vi_compare import formatting
from vi_compare.report.predicted import misfit
from vi_compare.report.view import FitView, View, shown
from vi_compare.verdict import Outcome, Word


@dataclass(frozen=True)
class Answer:
    """`bold` is the answer; `rest` says the other things that matter."""

    bold: str
    rest: str


def answer(view: View) -> Answer:
    published = _published(view)
    fits = _fits(view)
    if not published:
        rest = [rests_on(view), _faults(view), _reweighting(view), misfit(view)]
        return Answer(fits, " ".join(filter(None, rest)))
    rest = [*published[1:], fits, rests_on(view), _reweighting(view), misfit(view)]
    return Answer(published[0], " ".join(filter(None, rest)))


def rests_on(view: View) -> str:
    """What verdicts rest on, where a study names it."""
    named = formatting.listed([shown(name) for name in view.judged])
    return f"Verdicts rest on {named} alone." if named else ""


def _fits(view: View) -> str:
    """Which fits are faithful."""
    n = len(view.fits)
    if n == 1:
        return _only(view.fits[0])
    every = "Both" if n == 2 else f"All {formatting.words(n)}"
    none = "Neither of the two" if n == 2 else f"None of the {formatting.words(n)}"
    faithful = [formatting.quoted(f.name) for f in view.fits if f.word == Word.FAITHFUL]
    if all(f.failed for f in view.fits):
        return f"{every} fits failed."
    if not view.has_reference:
        return (
            f"{none} fits can be confirmed: there are no draws of the target to compare them with."
        )
    if view.doubts:
        return (
            f"{none} fits can be confirmed: the draws that stand for the target are in doubt "
            f"themselves."
        )
    if len(faithful) == n:
        return f"{every} fits are faithful."
    if faithful:
        verb = "is" if len(faithful) == 1 else "are"
        return f"Of {formatting.words(n)} fits only {formatting.listed(faithful)} {verb} faithful."
    perhaps = [formatting.quoted(f.name) for f in view.fits if f.data["verdict"]["vague"]]
    if perhaps:
        within = "may be, within error"
        return f"{none} fits is clearly faithful; {formatting.listed(perhaps)} {within}."
    return f"{none} fits is faithful."


def _faults(view: View) -> str:
    """What is wrong with the others, by the headline of each: "Misses modes: a and b."."""
    if len(view.fits) == 1 or not view.confirms:
        return ""
    named: dict[str, list[str]] = {}
    for fit in view.fits:
        if fit.word != Word.FAITHFUL:
            named.setdefault(fit.word, []).append(formatting.quoted(fit.name))
    told = [f"{word[:1].upper()}{word[1:]}: {_few(names)}." for word, names in named.items()]
    return " ".join(told)


def _few(names: list[str]) -> str:
    """All names, or the first three and how many more."""
    if len(names) <= 4:
        return formatting.listed(names)
    return f"{', '.join(names[:3])} and {formatting.words(len(names) - 3)} more"


def _only(fit: FitView) -> str:
    sayings: dict[str, str] = {
        Word.FAITHFUL: "is faithful",
        Word.FAILED: "failed",
        Word.UNVERIFIED: "cannot be confirmed",
        Word.CANNOT_TELL: "cannot be confirmed yet",
    }
    saying = sayings.get(fit.word, f"is not faithful: the verdict is “{fit.word}”")
    return f"The one fit, {formatting.quoted(fit.name)}, {saying}."


def _reweighting(view: View) -> str:
    usable = [
        formatting.quoted(f.name)
        for f in view.fits
        if f.data["verdict"].get("usable_after_reweighting") and f.word != Word.FAITHFUL
    ]
    return f"Usable after importance reweighting: {formatting.listed(usable)}." if usable else ""


def _published(view: View) -> list[str]:
    """Sentences on published figures, the most important first; none without figures."""
    judged = [
        r
        for r in view.results["published"]
        if r["result"] in (Outcome.REPRODUCED, Outcome.NOT_REPRODUCED)
    ]
    if not judged:
        return []
    wrong = [r for r in judged if r["result"] == Outcome.NOT_REPRODUCED]
    stated = [r for r in wrong if view.fit(r["fit"]).given and _is_metric(view, r)]
    stated.sort(key=lambda r: -abs(r["difference_in_standard_errors"]))
    sentences = [_false(view, view.fit(r["fit"]), r) for r in stated]
    if not sentences:
        sentences = [_overall(view, judged, wrong)]
    return [*sentences, *_by_fit(view, [r for r in judged if r not in stated])]


def _is_metric(view: View, row: dict[str, Any]) -> bool:
    return row["quantity"] in view.fit(row["fit"]).data["metrics"]


def _false(view: View, fit: FitView, row: dict[str, Any], errors: float = 10.0) -> str:
    """A figure that does not follow from the parameters printed with it.

    Off by this many standard errors, and by a tenth of itself, it is called false.
    """
    name, unit = view.called(row["quantity"]), view.abouts[row["quantity"]].suffix
    far = abs(row["difference_in_standard_errors"]) > errors
    off = abs(float(row["published"]) - row["ours"]) > 0.1 * abs(row["ours"])
    verdict = "is false" if far and off else "does not hold"
    ours = formatting.with_error(row["ours"], row["standard_error"], unit)
    printed = str(row["published"]).replace("-", "−")
    sentence = (
        f"The published {name} {verdict}: at the published parameters it is {ours}, not {printed}"
    )
    return f"{sentence}{_left_out(view, fit)}."


def _left_out(view: View, fit: FitView) -> str:
    missed = view.missed(fit) if Word.MISSES_MODES in fit.words else []
    if not missed:
        return ""
    first = missed[0]
    which = ", ".join(
        filter(None, [view.position(first), f"{formatting.percent(first.mass)} of the target"])
    )
    more = f", and {formatting.words(len(missed) - 1)} more" if len(missed) > 1 else ""
    return f", and they leave out {shown(first.name)} ({which}){more}"


def _overall(view: View, judged: list[dict], wrong: list[dict]) -> str:
    """How many figures hold, and the one that is furthest off."""
    one = len(judged) == 1
    if not wrong:
        every = (
            "The published figure is"
            if one
            else f"All {formatting.words(len(judged))} published figures are"
        )
        return f"{every} reproduced."
    worst = max(wrong, key=lambda r: abs(r["difference_in_standard_errors"]))
    name = view.called(worst["quantity"])
    ours = formatting.with_error(worst["ours"], worst["standard_error"])
    of = formatting.quoted(view.fit(worst["fit"]).name)
    case = f"{name} of {of} is {ours} here, not {worst['published']}"
    if one:
        return f"The published figure is not reproduced: {case}."
    are = "is" if len(wrong) == 1 else "are"
    share = f"{formatting.words(len(wrong)).capitalize()} of {formatting.words(len(judged))}"
    return f"{share} published figures {are} not reproduced; furthest off, {case}."


def _by_fit(view: View, rows: list[dict]) -> list[str]:
    """Which figures hold, and which do not, fit by fit."""
    held: list[str] = []
    broken: list[str] = []
    for name in dict.fromkeys(r["fit"] for r in rows):
        mine = [r for r in rows if r["fit"] == name]
        good = sum(r["result"] == Outcome.REPRODUCED for r in mine)
        entry = f"{formatting.quoted(view.fit(name).name)} ({good} of {len(mine)})"
        (held if good == len(mine) else broken).append(entry)
    out = []
    if held:
        out.append(
            "Published figures that are reproduced within three standard errors: "
            + f"{formatting.listed(held)}."
        )
    if broken:
        out.append(f"Not reproduced: {formatting.listed(broken)}{_here(view, rows)}.")
    return out


def _here(view: View, rows: list[dict]) -> str:
    """What the fits of this study give where a published metric does not hold."""
    found = [
        f"the {view.called(r['quantity'])} of "
        f"{formatting.quoted(view.fit(r['fit']).name)} is "
        f"{formatting.with_error(r['ours'], r['standard_error'])} here, not {r['published']}"
        for r in rows
        if r["result"] == Outcome.NOT_REPRODUCED and _is_metric(view, r)
    ]
    return f"; {formatting.listed(found)}" if found else ""
