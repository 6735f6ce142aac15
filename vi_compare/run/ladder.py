"""The ladder: fits of growing reach, the next one made only where none before it can be trusted.

What the tool is for, when nobody says what to compare: the cheapest approximation that passes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from types import MappingProxyType
from typing import Any

from vi_compare.gaussian.gaussians import MOST_FULL
from vi_compare.target import Target

# The word that asks for it among the fits of a study.
LADDER = "auto"


# (target, whether log p is fast enough for many draws) -> why it cannot be had, or ""
Hindrance = Callable[[Target, bool], str]


@dataclass(frozen=True)
class Rung:
    """A guide of the ladder, and what may stand in its way."""

    guide: str
    hindrances: tuple[Hindrance, ...] = ()

    def hindered(self, target: Target, has_time: bool) -> str:
        """Why a target cannot have the guide; "" where it can."""
        found = (hinders(target, has_time) for hinders in self.hindrances)
        return next(filter(None, found), "")


def _large(target: Target, _: bool) -> str:
    too_many = target.dim > MOST_FULL
    return f"full covariances of {target.dim:,} dimensions take too much" if too_many else ""


def _in_minibatches(target: Target, _: bool) -> str:
    return "the model sees minibatches" if target.subsampled else ""


def _slow(_: Target, has_time: bool) -> str:
    return "" if has_time else "log p takes long"


def _on_a_line(target: Target, _: bool) -> str:
    return "one dimension has nothing to couple" if target.dim == 1 else ""


def _without_flowjax(_target: Target, _: bool) -> str:
    return "" if find_spec("flowjax") else "pip install 'vi-compare[flows]' has it"


@dataclass(frozen=True)
class Ladder:
    """Guides in the order in which they are tried, each by reverse KL.

    Attributes:
        steps: the cheapest first.
        left_out: {guide: why this target cannot have it}.
        twins: how many of the last rungs are also fitted by forward KL, where there are draws of
            the target: the two directions beside each other.
    """

    steps: tuple[Rung, ...] = (
        Rung("normal"),
        Rung("mvn", (_large,)),
        Rung("mixture:auto", (_large, _in_minibatches, _slow)),
        Rung("coupling", (_large, _in_minibatches, _slow, _on_a_line, _without_flowjax)),
    )
    left_out: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    twins: int = 2

    @property
    def rungs(self) -> tuple[str, ...]:
        """Labels of the fits."""
        return tuple(f"{step.guide}/reverse-kl" for step in self.steps)

    def twin(self, rung: str) -> str:
        """The label of the same guide by forward KL."""
        return rung.replace("/reverse-kl", "/forward-kl")

    @property
    def most(self) -> int:
        """Fits at most."""
        return len(self.steps) + self.twins

    def for_target(self, target: Target, has_time: bool) -> Ladder:
        """As far as it reaches on a target.

        Args:
            has_time: whether log p is fast enough for the many draws that a mixture needs.
        """
        why = {step.guide: step.hindered(target, has_time) for step in self.steps}
        left = tuple(step for step in self.steps if not why[step.guide])
        out = {guide: reason for guide, reason in why.items() if reason}
        return Ladder(left, MappingProxyType(out), self.twins)


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
