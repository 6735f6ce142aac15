"""What ``vi-compare path`` found, as the page reads it: branches of optima along α."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np

from vi_compare.estimate import About
from vi_compare.report.view import Reading, short, shown


class PathMeasure(StrEnum):
    """What is measured at every point of a path, by its name in ``path.json``."""

    VALUE = "value"
    FORWARD_KL = "forward_kl"
    REVERSE_KL = "reverse_kl"
    MISSED_MASS = "missed_mass"
    INVENTED_MASS = "invented_mass"


@dataclass(frozen=True)
class End:
    """Where a branch begins or ends.

    Attributes:
        alpha, error: where, and one standard error or None.
        lost: the optimum itself ends there; otherwise only the range that was looked at does.
    """

    alpha: float
    error: float | None
    lost: bool


@dataclass(frozen=True)
class Branch:
    """One optimum followed over α: n points, K components, m margins, g grid points, b modes.

    Attributes:
        name, images: "A", and how many mirror images of it there are, itself included.
        begin, end: its ends, the lower α first.
        alpha: (n,) ascending.
        best: (n,) whether no other branch is lower there.
        measures: {measure: (n, 2) value and standard error}; NaN where there is none.
        basins: (n, b, 2) mass in the basin of every mode, with its standard error.
        weights: (n, K), or None where the guide has no components.
        means, sds: (n, K, m).
        densities: (n, m, g).
    """

    name: str
    images: int
    begin: End
    end: End
    alpha: np.ndarray
    best: np.ndarray
    measures: dict[str, np.ndarray]
    basins: np.ndarray
    weights: np.ndarray | None
    means: np.ndarray
    sds: np.ndarray
    densities: np.ndarray

    @classmethod
    def of(cls, data: dict[str, Any]) -> Branch:
        points = sorted(data["points"], key=lambda point: point["alpha"])
        first, last = (points[i]["alpha"] for i in (0, -1))
        weights = [p.get("weights") for p in points]
        return cls(
            short(str(data["name"]), 8),
            int(data.get("images") or 1),
            _end(data.get("begin"), first),
            _end(data.get("end"), last),
            np.array([p["alpha"] for p in points], dtype=float),
            np.array([bool(p.get("best")) for p in points]),
            {name: np.array([_pair(p.get(name)) for p in points]) for name in PathMeasure},
            _pairs([p.get("basins") for p in points]),
            None if None in weights else _numbers(weights, 2),
            _numbers([p.get("means") for p in points], 3),
            _numbers([p.get("sds") for p in points], 3),
            _numbers([p.get("densities") for p in points], 3),
        )

    def reading(self, measure: str, i: int) -> Reading:
        """A measure at its point `i`, with a reason where there is none."""
        value, error = self.measures[measure][i]
        return _reading(value, error)

    def basin(self, mode: int, i: int) -> Reading:
        return _reading(*self.basins[i, mode])

    def at(self, alpha: float) -> int | None:
        """The index of its point at this α, None where it has none."""
        found = np.flatnonzero(np.isclose(self.alpha, alpha, rtol=0, atol=1e-9))
        return int(found[0]) if found.size else None


@dataclass(frozen=True)
class Jump:
    """Where the lowest optimum changes from one branch to another, `nats` away from it."""

    alpha: float
    error: float | None
    old: str
    new: str
    nats: float | None


@dataclass(frozen=True)
class Margin:
    """A margin of the target: grid (g,) over u, its density there, and what it is called."""

    label: str
    grid: np.ndarray
    target: np.ndarray


@dataclass(frozen=True)
class Path:
    """All of ``path.json`` that is shown.

    Attributes:
        data: as stored, for what needs no preparation.
        branches: those that have points.
        modes, masses: places of the target's modes and the target's mass in each.
        abouts: {measure: what its numbers mean}, and of "mode_coverage".
    """

    data: dict[str, Any]
    branches: tuple[Branch, ...]
    jumps: tuple[Jump, ...]
    margins: tuple[Margin, ...]
    modes: tuple[str, ...]
    masses: np.ndarray
    abouts: dict[str, About]

    @classmethod
    def of(cls, data: dict[str, Any] | None) -> Path | None:
        """None where nothing was found, or this version cannot read it."""
        if data is None or data.get("schema") != 1 or "metrics" not in data:
            return None
        branches = [Branch.of(b) for b in data["branches"] if b["points"]]
        if not branches:
            return None
        return cls(
            data,
            tuple(branches),
            tuple(sorted(map(_jump, data.get("transitions") or []), key=lambda j: j.alpha)),
            tuple(
                Margin(shown(m["label"]), _line(m["grid"]), _line(m["target"]))
                for m in data.get("margins") or []
            ),
            tuple(short(m, 40) for m in data.get("modes") or []),
            _line(data.get("target_basins") or []),
            {name: About.of(about) for name, about in data["metrics"].items()},
        )

    @property
    def guide(self) -> str:
        return shown(self.data["guide"])

    @cached_property
    def alphas(self) -> np.ndarray:
        """(A,) every α that was looked at."""
        return np.array(sorted(self.data["alphas"]), dtype=float)

    @cached_property
    def range(self) -> tuple[float, float]:
        ends = [a for b in self.branches for a in (b.alpha[0], b.alpha[-1])]
        return min(ends), max(ends)

    def best(self, alpha: float) -> tuple[Branch, int] | None:
        """The branch that is lowest at this α, and which of its points stands there."""
        here = [(b, i) for b in self.branches if (i := b.at(alpha)) is not None]
        return next(((b, i) for b, i in here if b.best[i]), None)

    def sides(self, jump: Jump) -> tuple[tuple[Branch, int], tuple[Branch, int]] | None:
        """The last point before a jump and the first after it; None where one is not known."""
        named = {b.name: b for b in self.branches}
        old, new = named.get(jump.old), named.get(jump.new)
        if old is None or new is None:
            return None
        before = np.flatnonzero(old.alpha <= jump.alpha)
        after = np.flatnonzero(new.alpha >= jump.alpha)
        if not before.size or not after.size:
            return None
        return (old, int(before[-1])), (new, int(after[0]))

    @cached_property
    def ever_best(self) -> tuple[Branch, ...]:
        return tuple(b for b in self.branches if b.best.any())

    def where_best(self, branch: Branch) -> list[tuple[float, float]]:
        """Ranges of α in which it is lowest; they reach to the jumps at their sides."""
        edges = np.flatnonzero(np.diff(np.concatenate([[0], branch.best.astype(int), [0]])))
        spans = zip(edges[::2], edges[1::2] - 1, strict=True)
        return [self._widened(branch, first, last) for first, last in spans]

    def _widened(self, branch: Branch, first: int, last: int) -> tuple[float, float]:
        low, high = branch.alpha[first], branch.alpha[last]
        before = self.alphas[self.alphas < low - 1e-9].max(initial=-np.inf)
        after = self.alphas[self.alphas > high + 1e-9].min(initial=np.inf)
        starts = [j.alpha for j in self.jumps if j.new == branch.name and before <= j.alpha <= low]
        stops = [j.alpha for j in self.jumps if j.old == branch.name and high <= j.alpha <= after]
        return max(starts, default=float(low)), min(stops, default=float(high))

    @cached_property
    def crowd(self) -> tuple[int, float, float]:
        """The most branches that exist side by side, and the first range where they do."""
        ends = sorted({e.alpha for b in self.branches for e in (b.begin, b.end)})
        if len(ends) < 2:
            return len(self.branches), ends[0], ends[0]
        count = lambda a: sum(b.begin.alpha <= a <= b.end.alpha for b in self.branches)
        tally = [(count((low + high) / 2), low, high) for low, high in pairwise(ends)]
        return max(tally, key=lambda entry: entry[0])


def _end(data: dict[str, Any] | None, otherwise: float) -> End:
    data = data or {}
    alpha = data.get("alpha")
    where = float(otherwise if alpha is None else alpha)
    return End(where, data.get("error"), data.get("how", "edge") != "edge")


def _jump(data: dict[str, Any]) -> Jump:
    old, new = (short(str(data[key]), 8) for key in ("from", "to"))
    return Jump(float(data["alpha"]), data.get("standard_error"), old, new, data.get("jump"))


def _pair(entry: dict[str, Any] | None) -> tuple[float, float]:
    entry = entry or {}
    return _number(entry.get("value")), _number(entry.get("standard_error"))


def _number(x: Any) -> float:
    return np.nan if x is None else float(x)


def _pairs(rows: Sequence[Any]) -> np.ndarray:
    widest = max(len(row or []) for row in rows)
    filled = [[*(row or []), *[None] * (widest - len(row or []))] for row in rows]
    return np.array([[_pair(e) for e in row] for row in filled]).reshape(len(rows), widest, 2)


def _numbers(rows: Sequence[Any], rank: int) -> np.ndarray:
    """An array of this rank, NaN for null; empty where any row is null."""
    if any(row is None for row in rows):
        return np.zeros((len(rows),) + (0,) * (rank - 1))
    made = np.array(rows, dtype=float)
    return made if made.ndim == rank else np.zeros((len(rows),) + (0,) * (rank - 1))


def _line(values: Sequence[Any]) -> np.ndarray:
    return np.array([_number(v) for v in values])


def _reading(value: float, error: float, rounding: float = 1e-9) -> Reading:
    """`rounding`: errors below this share of the value come from floating point alone."""
    if not np.isfinite(value):
        return Reading(None, reason="it is infinite there or could not be measured")
    told = np.isfinite(error) and error > rounding * abs(value)
    return Reading(float(value), float(error) if told else None)
