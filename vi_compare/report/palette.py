"""Colours, dashes and markers: what tells fits apart, in figures and around them.

Figures are drawn in sentinel colours that stand for CSS variables, so that one figure
serves the light and the dark page. Colour is never alone: every fit has a dash pattern
and a marker of its own as well.
"""

from __future__ import annotations

from dataclasses import dataclass

# (light, dark). The first four stay apart for colour-blind readers; the rest lean on
# their dashes and markers.
COLOURS = (
    ("#cc5119", "#f27e3b"),
    ("#0854e1", "#64a2e6"),
    ("#770584", "#cf8eb3"),
    ("#349c79", "#4be08c"),
    ("#8a6400", "#dcb53c"),
    ("#b81d6b", "#ff86b9"),
    ("#00758a", "#45c4da"),
    ("#5b6270", "#aab2be"),
)
# Lengths of ink and gap in points.
DASHES = ((), (5, 2), (6, 2, 1.5, 2), (1.5, 1.5), (9, 2), (4, 1.5, 1.5, 1.5, 1.5, 1.5), (3, 3))
MARKERS = ("o", "s", "D", "^", "v", "P", "X", "<", ">")

# Sentinel -> CSS variable. Nothing else may be drawn with.
INK, MUTED, LINE, TARGET, SURFACE = "#0a0a01", "#0a0a02", "#0a0a03", "#0a0a04", "#0a0a05"
AVOID, FORCE = "#0a0a06", "#0a0a07"
GOOD, NEAR, BAD = "#0a0a08", "#0a0a09", "#0a0a0a"
VARIABLES = {
    INK: "--ink",
    MUTED: "--muted",
    LINE: "--line",
    TARGET: "--target",
    SURFACE: "--surface",
    AVOID: "--avoid",
    FORCE: "--force",
    GOOD: "--good",
    NEAR: "--near",
    BAD: "--bad",
}
FIT = "#0b{:04x}"


@dataclass(frozen=True)
class Style:
    """How the fit of this index looks everywhere.

    Attributes:
        index: position of the fit in the study.
    """

    index: int

    @property
    def css(self) -> str:
        """Class of everything that belongs to the fit."""
        return f"f{self.index}"

    @property
    def light(self) -> str:
        return COLOURS[self.index % len(COLOURS)][0]

    @property
    def dark(self) -> str:
        return COLOURS[self.index % len(COLOURS)][1]

    @property
    def colour(self) -> str:
        """The sentinel to draw with."""
        return FIT.format(self.index)

    @property
    def dashes(self) -> tuple[float, ...]:
        return DASHES[self.index % len(DASHES)]

    @property
    def line(self):
        """matplotlib's linestyle."""
        return (0, self.dashes) if self.dashes else "solid"

    @property
    def marker(self) -> str:
        return MARKERS[self.index % len(MARKERS)]


def variable(sentinel: str) -> str | None:
    """The CSS variable that a sentinel stands for; None for any other colour."""
    if sentinel.startswith("#0b"):
        return f"--f{int(sentinel[3:], 16)}"
    return VARIABLES.get(sentinel)
