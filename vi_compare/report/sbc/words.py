"""What a calibration says, in sentences: the finding first, then what would have been found."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vi_compare.formatting import count, fixed, listed, with_error, words
from vi_compare.report.view import shown
from vi_compare.verdict import Status


def verdict(calibration: Mapping[str, Any]) -> tuple[str, str]:
    """The word, and its mark: "good", "near" or "bad"."""
    few = calibration["power"] is None or _too_many_failed(calibration)
    if few or calibration["doubts"]:
        return "Cannot tell", "near"
    if accused(calibration):
        return "Miscalibrated", "bad"
    return "No miscalibration seen", "good"


def sentences(calibration: Mapping[str, Any], most: int = 5) -> list[str]:
    """What was found, in which margins (the `most` that are furthest off), and how sure that is."""
    found, margins = accused(calibration), calibration["margins"]
    n = calibration["simulations"]
    parts = [*_trouble(calibration)]
    if found:
        told = [f"{shown(one['label'])} {finding(one)}" for one in found[:most]]
        more = f", and {words(len(found) - most)} more" if len(found) > most else ""
        parts.append(
            f"Of {_many(len(margins), 'margin')}, {words(len(found))} "
            f"{'is' if len(found) == 1 else 'are'} off over {count(n)} data sets: "
            f"{'; '.join(told)}{more}."
        )
    elif calibration["power"] is not None:
        parts.append(
            f"In {_many(len(margins), 'margin')} the true values of {count(n)} data sets rank as "
            f"they should."
        )
    return [*parts, *_power(calibration), _blind(calibration)]


def source(calibration: Mapping[str, Any]) -> str:
    """Where the true values of the data sets came from."""
    known = {
        "prior": "the prior",
        "fit": "the fit itself",
        "exact": "exact draws of the posterior",
        "chains": "short chains",
        "nuts": "NUTS",
        "file": "draws made elsewhere",
    }
    return known[calibration["values_from"]]


def finding(one: Mapping[str, Any], *, sizes: bool = True) -> str:
    """Of one margin: "too sure (0.66 ± 0.05 of the right width)"; or without the sizes."""
    if not sizes:
        return listed(one["misfits"]) or "nothing seen"
    size = {
        "too low": _off(one),
        "too high": _off(one),
        "too sure": _wide(one),
        "too diffuse": _wide(one),
        "of another shape": "neither shifted nor of another width",
    }
    return listed([f"{m} ({size[m]})" for m in one["misfits"]]) or "nothing seen"


def margin(one: Mapping[str, Any]) -> str:
    """The caption of its picture."""
    return f"{shown(one['label'])}: {finding(one)}"


def accused(calibration: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The margins that are off, the furthest first."""
    return [one for one in worst_first(calibration) if one["misfits"]]


def worst_first(calibration: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """All margins, by their least p-value."""
    return sorted(calibration["margins"], key=lambda one: min(one["p_values"].values()))


def method(calibration: Mapping[str, Any]) -> list[str]:
    """How it was found, a paragraph each."""
    given = (
        "to the data made of it"
        if calibration["around"] == "prior"
        else "to the observed data and those made of it together"
    )
    return [
        f"For each of {count(calibration['simulations'])} data sets a value was drawn from "
        f"{source(calibration)}, data were drawn from the model at that value, and the guide was "
        f"fitted {given}, from where the fit to the observed data is. The value is ranked among "
        f"{count(calibration['draws'])} draws of that fit, margin by margin.",
        "Three tests of each margin: of its location (Student's t, on normal scores of the ranks), "
        "of its width (χ², on the same) and of its shape (ArviZ's test of uniform ranks). Holm's "
        f"correction over all of them keeps the probability of accusing any margin of a fit that "
        f"is right below {calibration['level']:g}.{_allowed(calibration)}",
    ]


def _allowed(calibration: Mapping[str, Any]) -> str:
    worth = calibration["values_worth"]
    if worth is None:
        return ""
    return (
        f" The true values came from draws that are worth {count(round(worth))} independent ones; "
        f"their errors are allowed for."
    )


def _too_many_failed(calibration: Mapping[str, Any], most: float = 0.05) -> bool:
    """Whether the ranks are of a choice of data sets: a larger share than `most` has none."""
    return bool(calibration["failed"] > most * calibration["simulations"])


def _trouble(calibration: Mapping[str, Any]) -> list[str]:
    """What is held against the refits."""
    n, parts = calibration["simulations"], []
    if doubts := calibration["doubts"]:
        parts.append(
            f"The draws that the true values came from are in doubt, so that a fault may be "
            f"theirs: {'; '.join(doubts)}."
        )
    if calibration["observed_fit"]["status"] == Status.NOT_CONVERGED:
        parts.append("The fit to the observed data, where all others begin, has not converged.")
    if failed := calibration["failed"]:
        parts.append(
            f"{count(failed)} of {count(n)} refits failed, as log p is not finite where they "
            f"began or went: these data sets have no rank, and the others are a choice of them."
        )
    if lost := calibration["not_converged"]:
        parts.append(
            f"{count(lost)} of {count(n)} refits had not arrived at an optimum; they are ranked "
            f"like the others, so that a fault may be of the search and not of the guide."
        )
    return parts


def _power(calibration: Mapping[str, Any]) -> list[str]:
    power = calibration["power"]
    if power is None:
        return ["There are too few data sets with a rank to judge by; give more --simulations."]
    return [
        f"In a given margin, so many data sets show with probability {power['probability']:g} a "
        f"location that is off by {fixed(power['shift'], 2)} standard deviations of the fit, and "
        f"a width of {fixed(power['narrow'], 2)} times the right one or less, or of "
        f"{fixed(power['wide'], 2)} times or more; more --simulations show less."
    ]


def _blind(calibration: Mapping[str, Any]) -> str:
    if calibration["around"] == "prior":
        return (
            "This is of the method over all data that the model makes, and not of the observed "
            "data alone: a fault may be of data that are unlike them (--around posterior asks "
            "near them)."
        )
    return (
        f"The true values came from {source(calibration)}: where that never goes, as to a mode "
        f"that it misses, nothing is seen (--around prior needs no draws of the posterior)."
    )


def _off(one: Mapping[str, Any]) -> str:
    shift = one["shift"]
    return f"off by {with_error(shift['value'], shift['standard_error'], 'sd')}"


def _wide(one: Mapping[str, Any]) -> str:
    width = one["width"]
    return f"{with_error(width['value'], width['standard_error'])} of the right width"


def _many(n: int, what: str) -> str:
    return f"{count(n)} {what}{'' if n == 1 else 's'}"
