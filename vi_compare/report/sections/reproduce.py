"""All that is needed to get the same numbers again."""

from __future__ import annotations

from vi_compare.report.blocks import Cell, Column, Command, Row, Section, Table
from vi_compare.report.marks import limits
from vi_compare.report.view import View

ORDER = 140

FACTS = (
    ("Commit", "commit"), ("Device", "device"), ("Precision", "precision"), ("Threads", "threads"),
    ("Seed", "seed"), ("Created", "created"),
)  # fmt: skip


def section(view: View) -> Section:
    facts, rules = view.results["environment"], view.results["rules"]
    rows = [_row(name, facts[key]) for name, key in FACTS if facts.get(key) is not None]
    rows += [_row(name.capitalize(), value) for name, value in facts.get("settings", {}).items()]
    rows += [_row(name, version) for name, version in facts["versions"].items()]
    run = Table([Column.words(""), Column.words("")], rows)
    verdicts = Table(
        [Column.words("Verdict"), Column.words("when")],
        [_row(rule["word"], rule["when"]) for rule in rules],
        heading="Rules of the verdicts",
        caption=(
            "The first that applies is the headline; Failed and Not converged, which the solver "
            "says, come before all. The worst margin or mode counts, and has to be beyond the "
            "threshold by its error."
        ),
    )
    marks = Table(
        [Column.words("Number"), Column.words("Marks; ✗ beyond")],
        [_row(about.name, told) for about in view.abouts.values() if (told := limits(about))],
        heading="Limits of the marks",
    )
    lead = (
        "The same command with the same versions, device and thread count gives the same numbers, "
        "times aside."
    )
    return Section(
        "reproduce", "Reproduce", lead, [Command(facts["command"]), run, verdicts, marks]
    )


def _row(name: str, value: object) -> Row:
    return Row([Cell(name), Cell(str(value))])
