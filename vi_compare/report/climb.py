"""How far the ladder was climbed, in words."""

from __future__ import annotations

from typing import Any

from vi_compare.formatting import listed
from vi_compare.report.view import FitView, View


def climb(view: View) -> dict[str, Any] | None:
    """The facts; None where fits were named."""
    return view.results.get("ladder")


def rungs(view: View) -> list[FitView]:
    """The fits of the ladder, in the order in which they were made."""
    facts = climb(view)
    return [view.fit(name) for name in facts["rungs"]] if facts else []


def where_it_ended(view: View) -> str:
    """Which approximation is the cheapest that passes, or that none does; "" without a ladder."""
    facts = climb(view)
    if facts is None:
        return ""
    on = f" for {view.judged_names}" if view.judged else ""
    out = listed([f"{guide} ({why})" for guide, why in facts["left_out"].items()])
    more = f" Left out: {out}." if out else ""
    if facts["found"] is None:
        last = rungs(view)[-1]
        why = f" {last.reasons[0]}" if last.reasons else ""
        return f"No rung of the ladder passes{on}; the last, {last.key}, is {last.word}.{why}{more}"
    untried = facts["not_tried"]
    after = f"; {listed(untried)} did not have to be tried" if untried else ""
    return f"The cheapest approximation that passes{on} is {facts['found']}{after}.{more}"
