"""The answer in sentences, built from verdicts and published figures alone.

Every sentence is true for any results: what is not known is not said.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from vi_compare.report import numbers
from vi_compare.report.view import FitView, View

NAMES = {"forward_kl": "forward KL", "reverse_kl": "reverse KL", "elbo": "ELBO", "khat": "k̂"}
# Off by this many standard errors and by a tenth of itself, a figure is called false.
FALSE = 10.0


@dataclass(frozen=True)
class Answer:
    """`bold` is the answer; `rest` says the other things that matter."""

    bold: str
    rest: str


def answer(view: View) -> Answer:
    published = _published(view)
    fits = _fits(view)
    if not published:
        return Answer(fits, _reweighting(view))
    rest = [*published[1:], fits, _reweighting(view)]
    return Answer(published[0], " ".join(filter(None, rest)))


def _fits(view: View) -> str:
    """Which fits are faithful."""
    n = len(view.fits)
    if n == 1:
        return _only(view.fits[0])
    faithful = [f.name for f in view.fits if f.word == "Faithful"]
    if all(f.failed for f in view.fits):
        return f"All {numbers.words(n)} fits failed."
    if not view.has_reference:
        return (
            f"None of the {numbers.words(n)} fits can be confirmed: there are no draws of the "
            "target to compare them with."
        )
    if not faithful:
        perhaps = [f.name for f in view.fits if f.word.startswith("between")]
        doubt = f"; {numbers.listed(perhaps)} may be, within error" if perhaps else ""
        return f"None of the {numbers.words(n)} fits is {'clearly ' * bool(perhaps)}faithful{doubt}."
    if len(faithful) == n:
        return f"All {numbers.words(n)} fits are faithful."
    verb = "is" if len(faithful) == 1 else "are"
    return f"Only {numbers.listed(faithful)} {verb} faithful, of {numbers.words(n)} fits."


def _only(fit: FitView) -> str:
    sayings = {"Faithful": "is faithful", "Failed": "failed", "Unverified": "cannot be confirmed"}
    saying = sayings.get(fit.word, f"is not faithful: the verdict is “{fit.word}”")
    return f"The one fit, {fit.name}, {saying}."


def _reweighting(view: View) -> str:
    usable = [
        f.name
        for f in view.fits
        if f.data["verdict"].get("usable_after_reweighting") and f.word != "Faithful"
    ]
    return f"Usable after importance reweighting: {numbers.listed(usable)}." if usable else ""


def _published(view: View) -> list[str]:
    """Sentences on published figures, the most important first; none without figures."""
    judged = [r for r in view.results["published"] if r["result"] in ("reproduced", "not reproduced")]
    if not judged:
        return []
    wrong = [r for r in judged if r["result"] == "not reproduced"]
    fits = {f.name: f for f in view.fits}
    stated = [r for r in wrong if fits[r["fit"]].data["status"] == "given" and _is_metric(fits, r)]
    stated.sort(key=lambda r: -abs(r["difference_in_standard_errors"]))
    sentences = [_false(view, fits[r["fit"]], r) for r in stated]
    if not sentences:
        sentences = [_overall(judged, wrong)]
    return [*sentences, *_by_fit(fits, [r for r in judged if r not in stated])]


def _is_metric(fits: dict[str, FitView], row: dict[str, Any]) -> bool:
    return row["quantity"] in fits[row["fit"]].data["metrics"]


def _false(view: View, fit: FitView, row: dict[str, Any]) -> str:
    """A figure that does not follow from the parameters printed with it."""
    name = NAMES.get(row["quantity"], row["quantity"].replace("_", " "))
    entry = fit.data["metrics"][row["quantity"]]
    unit = entry["unit"] if entry["unit"] != "1" else ""
    far = abs(row["difference_in_standard_errors"]) > FALSE
    off = abs(float(row["published"]) - row["ours"]) > 0.1 * abs(row["ours"])
    verdict = "is false" if far and off else "does not hold"
    ours = numbers.with_error(row["ours"], row["standard_error"], unit)
    shown = str(row["published"]).replace("-", "−")
    sentence = f"The published {name} {verdict}: at the published parameters it is {ours}, not {shown}"
    return f"{sentence}{_left_out(view, fit)}."


def _left_out(view: View, fit: FitView) -> str:
    missed = view.missed(fit) if "Misses modes" in fit.words else []
    if not missed:
        return ""
    first = missed[0]
    largest = ", the largest" if first.number == 1 and len(view.modes) > 1 else ""
    more = f" and {numbers.words(len(missed) - 1)} more" if len(missed) > 1 else ""
    # Its own quantifier: one mode of about 39 %, not every missed mode.
    return f", and they leave out the {first.name}{largest} ({numbers.percent(first.mass)} of the target){more}"


def _overall(judged: list[dict], wrong: list[dict]) -> str:
    if not wrong:
        many = f"All {numbers.words(len(judged))} published figures are" if len(judged) > 1 else "The published figure is"
        return f"{many} reproduced."
    worst = max(wrong, key=lambda r: abs(r["difference_in_standard_errors"]))
    ours = numbers.with_error(worst["ours"], worst["standard_error"])
    return (
        f"{numbers.words(len(wrong)).capitalize()} of {numbers.words(len(judged))} published figures "
        f"{'is' if len(wrong) == 1 else 'are'} not reproduced, the furthest off being "
        f"{worst['quantity']} of {worst['fit']}: published {worst['published']}, here {ours}."
    )


def _by_fit(fits: dict[str, FitView], rows: list[dict]) -> list[str]:
    """Which figures hold, and which do not, fit by fit."""
    held: list[str] = []
    broken: list[str] = []
    for name in dict.fromkeys(r["fit"] for r in rows):
        mine = [r for r in rows if r["fit"] == name]
        good = sum(r["result"] == "reproduced" for r in mine)
        share = f"{numbers.words(good)} of {numbers.words(len(mine))}"
        (held if good == len(mine) else broken).append(f"{name} ({share})")
    out = []
    if held:
        out.append(f"Reproduced within three standard errors: {numbers.listed(held)}.")
    if broken:
        out.append(f"Not reproduced: {numbers.listed(broken)}{_best(fits, rows)}.")
    return out


def _best(fits: dict[str, FitView], rows: list[dict]) -> str:
    """What the fits of this study reach where a published metric does not hold."""
    found = [
        f"{r['fit']} reaches {NAMES.get(r['quantity'], r['quantity'])} "
        f"{numbers.with_error(r['ours'], r['standard_error'])}"
        for r in rows
        if r["result"] == "not reproduced" and _is_metric(fits, r)
    ]
    return f"; {numbers.listed(found)}" if found else ""
