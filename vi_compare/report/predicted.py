"""What is predicted of the data, as the page and the terminal say it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from vi_compare import formatting
from vi_compare.report.view import View, shown


@dataclass(frozen=True)
class Finding:
    """Whether a model fits one of the sites that it observes.

    Attributes:
        site: its name; n: observations looked at.
        fits: whether they look like what is predicted of them.
        words: a sentence, with numbers.
    """

    site: str
    n: int
    fits: bool
    words: str


def findings(view: View) -> list[Finding]:
    """Of every site that could be checked, by what draws of the target predict of it."""
    observed = view.target.get("observed") or {}
    known = observed.get("reference")
    if not known:
        return []
    checks = {name: site["check"] for name, site in known["sites"].items()}
    made, level = judged(view, checks)
    return [
        _finding(name, observed["sites"][name]["looked_at"], check, level)
        for name, check in made.items()
    ]


def judged(view: View, checks: Mapping[str, dict]) -> tuple[dict[str, dict], float]:
    """The checks {site: check} that were made, and the level that they share."""
    made = {name: check for name, check in checks.items() if check["p_value"] is not None}
    return made, view.target["observed"]["level"] / max(1, len(made))


def _finding(name: str, n: int, check: dict, level: float) -> Finding:
    p, site = check["p_value"], formatting.quoted(shown(name))
    if p >= level:
        words = f"{site} looks as the model predicts it ({formatting.p_equals(p)})."
        return Finding(name, n, True, words)
    how = "its chances are off" if check["below"] is None else _how(check, n)
    words = f"The model does not fit {site}: {how} ({formatting.p_equals(p)})."
    return Finding(name, n, False, words)


def _how(check: dict, n: int) -> str:
    """In which way observations rank where they should not."""
    below, above = check["below"], check["above"]
    share, of = formatting.percent(below + above), f"of {formatting.count(n)} observations"
    ends = f"{share} {of} lie in the 10 % at the ends of what is predicted of them"
    if max(below, above) > 0.08 and max(below, above) > 3 * min(below, above):
        side, value = ("lowest", below) if below > above else ("highest", above)
        return f"{formatting.percent(value)} {of} lie in the {side} 5 % of what is predicted"
    if below + above > 0.13:
        return f"{ends}: they are more spread"
    if below + above < 0.07:
        return f"{ends}: they are less spread"
    return f"{of.removeprefix('of ')} rank unevenly among what is predicted of them"


def misfit(view: View) -> str:
    """One sentence where the model does not fit its data; "" where it does, or nobody knows: by
    draws that are in doubt themselves nothing is blamed on the model."""
    if not view.confirms:
        return ""
    wrong = [formatting.quoted(shown(f.site)) for f in findings(view) if not f.fits]
    if not wrong:
        return ""
    return f"The model does not fit {formatting.listed(wrong)}, whatever the guide."
