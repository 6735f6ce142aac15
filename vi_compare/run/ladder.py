"""The ladder: fits of growing reach, the next one made only where none before it can be trusted.

What the tool is for, when nobody says what to compare: the cheapest approximation that passes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from vi_compare.gaussian.gaussians import MOST_FULL
from vi_compare.target import Target

# The word that asks for it among the fits of a study.
LADDER = "auto"


@dataclass(frozen=True)
class Ladder:
    """Guides in the order in which they are tried, each by reverse KL.

    Attributes:
        guides: the cheapest first.
        left_out: {guide: why this target cannot have it}.
        twins: how many of the last rungs are also fitted by forward KL, where there are draws of
            the target: the two directions beside each other.
    """

    guides: tuple[str, ...] = ("normal", "mvn", "mixture:auto")
    left_out: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    twins: int = 2

    @property
    def rungs(self) -> tuple[str, ...]:
        """Labels of the fits."""
        return tuple(f"{guide}/reverse-kl" for guide in self.guides)

    def twin(self, rung: str) -> str:
        """The label of the same guide by forward KL."""
        return rung.replace("/reverse-kl", "/forward-kl")

    @property
    def most(self) -> int:
        """Fits at most."""
        return len(self.guides) + self.twins

    def for_target(self, target: Target, has_time: bool) -> Ladder:
        """As far as it reaches on a target.

        Args:
            has_time: whether log p is fast enough for the many draws that a mixture needs.
        """
        out = {guide: why for guide in self.guides if (why := _hindrance(guide, target, has_time))}
        left = tuple(guide for guide in self.guides if guide not in out)
        return Ladder(left, MappingProxyType(out), self.twins)


def _hindrance(guide: str, target: Target, has_time: bool) -> str:
    """Why a target cannot have a guide; "" where it can."""
    if guide == "normal":
        return ""
    if target.dim > MOST_FULL:
        return f"full covariances of {target.dim:,} dimensions take too much memory and time"
    if guide == "mvn":
        return ""
    if target.subsampled:
        return "the model sees minibatches"
    return "" if has_time else "log p takes long"


@dataclass(frozen=True)
class Reached:
    """How far a ladder was climbed.

    Attributes:
        rungs: names of the fits, in the order in which they were made.
        found: the first of them that was Faithful; None where none was.
        not_tried: names of rungs after it.
        left_out: {guide: why the target cannot have it}.
    """

    rungs: Sequence[str]
    found: str | None
    not_tried: Sequence[str]
    left_out: Mapping[str, str]

    def facts(self) -> dict[str, Any]:
        """As ``results.json`` has it."""
        return {
            "rungs": list(self.rungs),
            "found": self.found,
            "not_tried": list(self.not_tried),
            "left_out": dict(self.left_out),
        }
