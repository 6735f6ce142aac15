"""Figures that somebody printed, against what this run gives."""

from __future__ import annotations

from collections import Counter
from typing import Any

from vi_compare import formatting
from vi_compare.report.blocks import Cell, Column, Row, Section, Table, missing, spread_line
from vi_compare.report.view import FitView, View
from vi_compare.verdict import Outcome

ORDER = 120

MARKS = {Outcome.REPRODUCED: "good", Outcome.NOT_REPRODUCED: "bad"}


def section(view: View) -> Section | None:
    rows = view.results["published"]
    if not rows:
        return None
    fits = {f.key: f for f in view.fits}
    columns = [
        Column.words("Fit"),
        Column.words("Quantity"),
        Column("Published"),
        Column("This run"),
        Column("Difference", "standard errors"),
        Column.words("Result"),
        Column.words("Source"),
    ]
    table = Table(
        columns,
        [Row(_cells(view, fits[r["fit"]], r), fits[r["fit"]]) for r in rows],
        "published",
        caption=(
            "The difference is divided by the standard error of this run and the rounding of the "
            "last printed digit together; up to three counts as reproduced. Components are "
            "compared in the order of their means."
        ),
    )
    return Section("published", "Published against reproduced", _lead(fits, rows), [table])


def _lead(fits: dict[str, FitView], rows: list[dict[str, Any]]) -> str:
    """Which kinds of figures hold, and which do not."""
    tally = Counter(r["result"] for r in rows)
    held, broken = tally[Outcome.REPRODUCED], tally[Outcome.NOT_REPRODUCED]
    parts = [f"{held} of {len(rows)} published figures are reproduced, {broken} are not"]
    if rest := len(rows) - held - broken:
        parts.append(f"{rest} cannot be judged")
    sentences = [", ".join(parts) + "."]
    for result, verb in (
        (Outcome.REPRODUCED, "All hold"),
        (Outcome.NOT_REPRODUCED, "None holds"),
    ):
        whole = [
            formatting.quoted(fits[name].name)
            for name in dict.fromkeys(r["fit"] for r in rows)
            if all(r["result"] == result for r in rows if r["fit"] == name)
        ]
        if whole:
            sentences.append(f"{verb} for {formatting.listed(whole)}.")
    return " ".join(sentences)


def _cells(view: View, fit: FitView, row: dict[str, Any]) -> list[Cell]:
    name = Cell(fit.name, fit=fit)
    source = Cell(row["source"])
    published = Cell(str(row["published"]).replace("-", "−"), value=float(row["published"]))
    if row["ours"] is None:
        reason = row["reason"]
        return [
            name,
            Cell(view.called(row["quantity"])),
            published,
            missing(reason),
            missing(reason),
            Cell("not available"),
            source,
        ]
    text, spread = _ours(row)
    difference = row["difference_in_standard_errors"]
    return [
        name,
        Cell(view.called(row["quantity"])),
        published,
        Cell(text, spread, value=row["ours"], error=row["standard_error"]),
        Cell(formatting.fixed(difference, 1), value=difference),
        Cell(row["result"], mark=MARKS.get(row["result"], "near")),
        source,
    ]


def _ours(row: dict[str, Any]) -> tuple[str, tuple[str, ...]]:
    """Ours with its error, or with one digit more than was printed where that is not known."""
    if row["standard_error"] is None:
        return formatting.plain(row["ours"], 4), ("error unknown",)
    text, spread = formatting.pair(row["ours"], row["standard_error"])
    return text, spread_line(spread)
