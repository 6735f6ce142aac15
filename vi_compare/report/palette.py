"""Colours, dashes and markers: what tells fits apart, in figures and around them.

Figures are drawn in sentinel colours that stand for CSS variables, so that one figure
serves the light and the dark page. Colour is never alone: every fit has a dash pattern
and a marker of its own as well.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Colour(StrEnum):
    """What figures are drawn with beside the colours of fits; nothing else may be.

    Each is a sentinel, a colour that no figure would choose. It stands for the CSS variable of
    the same name.
    """

    INK = "#0a0a01"  # lines and text that matter most
    MUTED = "#0a0a02"  # labels, and lines in the background
    LINE = "#0a0a03"  # axes and grids
    TARGET = "#0a0a04"  # the area under the target's density
    SURFACE = "#0a0a05"  # the page itself, as a rim around markers
    AVOID = "#0a0a06"  # the zone where p is far above q
    FORCE = "#0a0a07"  # the zone where q is far above p
    GOOD = "#0a0a08"
    NEAR = "#0a0a09"
    BAD = "#0a0a0a"

    @property
    def variable(self) -> str:
        return f"--{self.name.lower()}"


@dataclass(frozen=True)
class Style:
    """How the fit of this index looks everywhere.

    Attributes:
        index: position of the fit in the study. Colours, dashes and markers repeat after
            different numbers of fits, so that their combination does not.
        colours: (light, dark) as the page shows them. The first four stay apart for colour-blind
            readers; the rest lean on their dashes and markers.
        markers: matplotlib's signs for them.
    """

    index: int
    colours: tuple[tuple[str, str], ...] = (
        ("#cc5119", "#f27e3b"),
        ("#0854e1", "#64a2e6"),
        ("#770584", "#cf8eb3"),
        ("#349c79", "#4be08c"),
        ("#8a6400", "#dcb53c"),
        ("#b81d6b", "#ff86b9"),
        ("#00758a", "#45c4da"),
        ("#5b6270", "#aab2be"),
    )
    markers: str = "osD^vPX<>"

    @property
    def css(self) -> str:
        """Class of everything that belongs to the fit."""
        return f"f{self.index}"

    @property
    def light(self) -> str:
        return self.colours[self.index % len(self.colours)][0]

    @property
    def dark(self) -> str:
        return self.colours[self.index % len(self.colours)][1]

    @property
    def colour(self) -> str:
        """The sentinel to draw with."""
        return f"#0b{self.index:04x}"

    @property
    def dashes(self) -> tuple[float, ...]:
        return dashes(self.index)

    @property
    def line(self):
        """matplotlib's linestyle."""
        return linestyle(self.index)

    @property
    def marker(self) -> str:
        return self.markers[self.index % len(self.markers)]


def dashes(
    index: int,
    patterns: tuple[tuple[float, ...], ...] = (
        (), (5, 2), (6, 2, 1.5, 2), (1.5, 1.5), (9, 2), (4, 1.5, 1.5, 1.5, 1.5, 1.5), (3, 3),
    ),
) -> tuple[float, ...]:  # fmt: skip
    """Lengths of ink and gap, in points, of the line with this index; () for one without gaps."""
    return patterns[index % len(patterns)]


def linestyle(index: int):
    """The same as matplotlib's linestyle."""
    return (0, dashes(index)) if dashes(index) else "solid"


def variable(sentinel: str) -> str | None:
    """The CSS variable that a sentinel stands for; None for any other colour."""
    if sentinel.startswith("#0b"):
        return f"--f{int(sentinel[3:], 16)}"
    return Colour(sentinel).variable if sentinel in Colour else None
