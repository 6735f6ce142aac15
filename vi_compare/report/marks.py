"""When a number gets ✓, ! or ✗, and how that is said: from what its metric's About says.

The marks help the eye; the verdict has rules of its own, which weigh the standard error.
"""

from __future__ import annotations

from vi_compare.estimate import About, Kind

SIGNS = {"good": "✓", "near": "!", "bad": "✗", "": ""}


def mark(about: About, value: float | None) -> str:
    """ "good", "near" or "bad"; "" where there is no number, or nothing is too much."""
    if value is None or about.good is None or about.near is None:
        return ""
    if about.within(value, about.good):
        return "good"
    return "near" if about.within(value, about.near) else "bad"


def limits(about: About) -> str:
    """Where the marks change: "✓ up to 2 % (1 % is perfect), ! up to 5 %"; "" without marks."""
    if about.good is None or about.near is None:
        return ""
    good, near = (_written(about, limit) for limit in (about.good, about.near))
    match about.kind:
        case Kind.RATIO:
            parts = [f"✓ within a factor of {good}", f"! within {near}"]
        case Kind.SIGNED if about.perfect:
            unit = " points" if about.percent else ""
            parts = [
                f"✓ within {good.removesuffix(' %')}{unit} of {_written(about, about.perfect)}",
                f"! within {near.removesuffix(' %')}",
            ]
        case Kind.SIGNED:
            parts = [f"✓ within {good} {about.suffix}".strip(), f"! within {near}"]
        case _:
            way = "from" if about.kind is Kind.LARGER else "up to"
            best = f" ({_written(about, about.perfect)} is perfect)" if about.perfect else ""
            unit = f" {about.suffix}" if about.suffix else ""
            parts = [f"✓ {way} {good}{unit}{best}", f"! {way} {near}"]
    return ", ".join(parts if good != near else parts[:1])


def better(about: About) -> str:
    """Which value is the best one: "smallest", "nearest to 90 %"."""
    match about.kind:
        case Kind.SMALLER:
            return "smallest"
        case Kind.LARGER:
            return "largest"
    return f"nearest to {'its floor' if about.perfect is None else _written(about, about.perfect)}"


def _written(about: About, value: float) -> str:
    return f"{100 * value:g} %" if about.percent else f"{value:g}"
