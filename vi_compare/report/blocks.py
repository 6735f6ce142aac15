"""What a page is made of: plain records that the template knows how to show."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from vi_compare import formatting
from vi_compare.estimate import About
from vi_compare.report.marks import SIGNS
from vi_compare.report.view import FitView, Reading


@dataclass(frozen=True)
class Cell:
    """One cell of a table.

    Attributes:
        text, below: the first line, and small lines under it.
        mark: "good", "near", "bad" or "".
        title: shown on hover.
        value, error: what sorting and CSV use; the text where there is no value.
        fit: the cell shows this fit's line and name instead of `text`,
        about: with this under it.
        fits: the cell shows these fits, each with a line under it, instead of `text`.
        reason: why there is no number; listed under the table too.
        outlined: a frame around it, for the cell that a caption speaks of.
    """

    text: str
    below: tuple[str, ...] = ()
    mark: str = ""
    title: str = ""
    value: float | None = None
    error: float | None = None
    fit: FitView | None = None
    about: str = ""
    fits: tuple[tuple[FitView, str], ...] = ()
    reason: str = ""
    outlined: bool = False

    @property
    def sign(self) -> str:
        return SIGNS[self.mark]


@dataclass(frozen=True)
class Column:
    """A column: its heading in one or two lines, and whether it holds numbers.

    Attributes:
        long: the heading is a name, which may break anywhere.
        fit: the whole column is about this fit, and goes when it is hidden.
    """

    head: str
    below: str = ""
    numeric: bool = True
    title: str = ""
    long: bool = False
    fit: FitView | None = None

    @classmethod
    def words(cls, head: str, below: str = "") -> Column:
        """A column of text."""
        return cls(head, below, numeric=False)

    @classmethod
    def of(cls, about: About) -> Column:
        """A column of one metric's numbers."""
        return cls(about.heading, about.below, title=about.meaning)

    @property
    def name(self) -> str:
        """The heading in one line; a second line that is a unit is no part of it."""
        return self.head if self.below in ("", "nats", "s") else f"{self.head} {self.below}"

    @property
    def css(self) -> str:
        return f"{'n' * self.numeric} {'long' * self.long} {self.owner}".strip()

    @property
    def owner(self) -> str:
        """Classes by which the page finds what belongs to a fit; "" for no fit."""
        return f"fit {self.fit.css}" if self.fit else ""


@dataclass(frozen=True)
class Row:
    """Cells, and the fit that they are about."""

    cells: Sequence[Cell]
    fit: FitView | None = None


@dataclass(frozen=True)
class Table:
    """A table; `name` is that of its CSV file, "" for none.

    Attributes:
        folded: a summary line, when the table is to be opened by the reader.
    """

    columns: Sequence[Column]
    rows: Sequence[Row]
    name: str = ""
    heading: str = ""
    caption: str = ""
    folded: str = ""
    kind: str = "table"

    @property
    def reasons(self) -> list[str]:
        """Why numbers are missing: "Forward KL: there are no draws …", each once."""
        found: dict[str, list[str]] = {}
        for row in self.rows:
            for column, cell in zip(self.columns, row.cells, strict=True):
                names = found.setdefault(cell.reason, [])
                if column.name not in names:
                    names.append(column.name)
        return [f"{', '.join(names)}: {reason}" for reason, names in found.items() if reason]


@dataclass(frozen=True)
class Picture:
    """One figure: inline SVG, above it the fit that it is about, below it a caption.

    Attributes:
        part: "moving" where it says nothing without the page's script, "still" where it
            stands in for one that moves; "" for all others.
    """

    svg: Any
    caption: str = ""
    fit: FitView | None = None
    part: str = ""


@dataclass(frozen=True)
class Pictures:
    """Figures side by side, with one line that says how to read them."""

    pictures: Sequence[Picture]
    how: str
    legend: Sequence[FitView] = ()
    target: bool = False
    kind: str = "pictures"


@dataclass(frozen=True)
class Explorer(Pictures):
    """Figures under one slider, which the page's script moves.

    Attributes:
        data: what `vi_compare.report.path.explorer.packed` made.
        stops: (position of the slider, words) of its buttons.
        choices: the branches to follow, in words, in the order of `data`.
        ends: words at both ends of the slider.
    """

    data: str = ""
    stops: Sequence[tuple[int, str]] = ()
    choices: Sequence[str] = ()
    ends: tuple[str, str] = ("", "")
    kind: str = "explorer"


@dataclass(frozen=True)
class Note:
    """A paragraph; boxed when it is one to stop at. `term` is set in bold before it, or
    with its `mark` where the paragraph is a finding."""

    text: str
    term: str = ""
    boxed: bool = False
    zone: str = ""
    mark: str = ""
    kind: str = "note"


@dataclass(frozen=True)
class Command:
    """A command line to copy."""

    text: str
    kind: str = "command"


@dataclass(frozen=True)
class Section:
    """A card of the page, with an entry in the contents.

    Attributes:
        key: its anchor, unique on the page.
        lead: the paragraph that opens it.
        order: sections stand in ascending order, from 0. One that asks for no place comes
            after the findings and before what is there to look things up: "All numbers" (125),
            "Information" (130) and "Reproduce" (140).
    """

    key: str
    title: str
    lead: str = ""
    blocks: Sequence[Any] = ()
    order: int = 122

    def __post_init__(self):
        if not isinstance(self.order, int):
            raise TypeError(f"order is {self.order!r}; give a whole number, or leave it out")

    @property
    def tally(self) -> tuple[str, str]:
        """The worst mark in its tables and notes, and how often: ("bad", "3 ✗")."""
        tables = [b for b in self.blocks if b.kind == "table"]
        marks = Counter(c.mark for t in tables for row in t.rows for c in row.cells)
        marks.update(b.mark for b in self.blocks if b.kind == "note")
        for mark in ("bad", "near"):
            if marks[mark]:
                return mark, f"{marks[mark]} {SIGNS[mark]}"
        return ("good", SIGNS["good"]) if marks["good"] else ("", "")


def name_of(fit: FitView, *, about: bool = False) -> Cell:
    """The cell that a fit's row begins with; with what its name does not say."""
    return Cell(fit.name, fit=fit, about=fit.about if about else "")


def spread_line(spread: str, unit: str = "") -> tuple[str, ...]:
    """The small line that gives a standard error, as `formatting.pair` wrote it; or none."""
    return () if not spread else (spread,) if spread == "exact" else (f"± {spread}{unit}",)


def unconfirmed(cells: Sequence[Cell]) -> list[Cell]:
    """The same cells without ticks: for fits that no draws of the target stand against."""
    return [replace(cell, mark="") if cell.mark == "good" else cell for cell in cells]


def missing(reason: str) -> Cell:
    return Cell("not available", title=reason, reason=reason or "no reason was recorded")


def recorded(value: Any, text: Callable[[Any], str]) -> Cell:
    """What a solver counted, as text; or that it kept no count."""
    if value is None:
        why = "the solver kept no count of it"
        return Cell("not recorded", title=why, reason=why)
    return Cell(text(value), value=float(value))


def bounds_among(readings: Iterable[Reading]) -> str:
    """What ≥ and ≤ mean, for the caption of a table that has one; "" for others."""
    if not any(reading.bound for reading in readings):
        return ""
    return (
        " ≥ and ≤ stand where a tail is too heavy for so many draws: the truth is likely to lie "
        "beyond, by more than the error tells."
    )


def measured(reading: Reading, *, marked: bool = False) -> Cell:
    """A reading with its standard error below it, and with its mark where it is `marked`."""
    if reading.value is None:
        return missing(reading.reason)
    factor = 100.0 if reading.percent else 1.0
    error = None if reading.error is None else factor * reading.error
    text, spread = formatting.pair(factor * reading.value, error)
    sign = " %" if reading.percent else ""
    return Cell(
        formatting.SIGNS[reading.bound] + text + sign,
        spread_line(spread, sign),
        reading.mark if marked else "",
        value=reading.value,
        error=reading.error,
    )
