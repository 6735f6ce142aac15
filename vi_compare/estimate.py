"""Estimate: a measured number and its error. About: what a metric's numbers mean.

Needs NumPy alone, so that what reads saved results does not wait for JAX.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from itertools import product
from typing import Any, Literal, get_args

import numpy as np

from vi_compare.psis import too_heavy_to_average

ALL = "all"  # the label of a metric's headline
NO_MARGIN = "the target's draws do not vary"

Unit = Literal["nats", "sd", "count", "1"]
Bound = Literal["", "least", "most"]
OPPOSITE: dict[Bound, Bound] = {"": "", "least": "most", "most": "least"}


class MetricKind(StrEnum):
    """Which values of a metric are the better ones."""

    SMALLER = "smaller"  # one-sided: a divergence, a distance, a missed share
    LARGER = "larger"  # one-sided: a bound from below, a share of useful draws
    SIGNED = "signed"  # an error with a sign, or a level to be met: the nearer, the better
    RATIO = "ratio"  # fit ÷ target: twice as large is as bad as half as large


@dataclass(frozen=True, kw_only=True)
class About:
    """What the numbers of one metric mean: all that a table, a mark, a verdict or a comparison
    of two runs has to know of it.

    Attributes:
        name: as a sentence says it: "forward KL".
        meaning: what is measured, in one line, with the formula where there is one.
        kind: which values are better.
        unit: "nats", "sd" (of the target), "count", or "1" for shares and ratios.
        perfect: what a perfect fit scores; None where that depends on the target or the
            label, or where there is no such number (an ELBO).
        good, near: limits of ✓ and of !: a value of a one-sided metric, a distance from
            `perfect` of a signed one, a factor (above 1) of a ratio. None for no marks.
        percent: whether values are shown in per cent.
        heading, below: the two lines of a table's heading; by default the name and the unit.
        above_floor: whether a value counts only where it is above its floor.
        counts_from: labels with a smaller share of the target are not counted.
        least: a ratio below this is as bad as this one, so that a ratio of nothing is not
            infinitely bad; by default only a logarithm of 0 is avoided.
        trained_by: divergences, as on the command line, whose optimum has the best value.
    """

    name: str
    meaning: str
    kind: MetricKind
    unit: Unit = "1"
    perfect: float | None = None
    good: float | None = None
    near: float | None = None
    percent: bool = False
    heading: str = ""
    below: str = ""
    above_floor: bool = False
    counts_from: float = 0.0
    least: float = 1e-300
    trained_by: tuple[str, ...] = ()

    def __post_init__(self):
        if self.unit not in get_args(Unit):
            raise ValueError(f"unit is {self.unit!r}; it must be one of {get_args(Unit)}")
        if not isinstance(self.kind, MetricKind):
            raise TypeError(f"kind is {self.kind!r}; give a MetricKind")
        if not self.heading:
            object.__setattr__(self, "heading", f"{self.name[:1].upper()}{self.name[1:]}")
            object.__setattr__(self, "below", self.below or self.suffix)

    @property
    def suffix(self) -> str:
        """The unit as it stands behind a number; "" for shares, ratios and counts."""
        return "" if self.unit in ("1", "count") else self.unit

    def badness(self, value: float) -> float:
        """How bad a value is: the larger, the worse; in the metric's unit, of a ratio its
        distance from 1 on a log scale."""
        match self.kind:
            case MetricKind.LARGER:
                return -value
            case MetricKind.SIGNED:
                return abs(value - (self.perfect or 0.0))
            case MetricKind.RATIO:
                return abs(math.log(max(value, self.least)))
        # A distance that is estimated below 0 is as far off as one above.
        return abs(value) if self.perfect == 0 else value

    def within(self, value: float, limit: float) -> bool:
        """Whether a value is as good as `limit`, which is given as `good` and `near` are."""
        if self.kind is MetricKind.LARGER:
            limit = -limit
        if self.kind is MetricKind.RATIO:
            limit = math.log(limit)
        return self.badness(value) <= limit

    def edge(self, side: int) -> float | None:
        """Where `near` ends above (+1) or below (−1): a value, or of a signed metric a
        distance from `perfect`."""
        if self.near and self.kind is MetricKind.RATIO and side < 0:
            return 1 / self.near
        return self.near

    def plain(self) -> dict[str, Any]:
        """As it stands in ``results.json``."""
        return asdict(self) | {"kind": self.kind.value, "trained_by": list(self.trained_by)}

    @classmethod
    def of(cls, data: Mapping[str, Any]) -> About:
        """From what `plain` gave.

        Raises:
            TypeError, ValueError, KeyError: when it is of another version.
        """
        more = {"kind": MetricKind(data["kind"]), "trained_by": tuple(data["trained_by"])}
        return cls(**{**data, **more})


@dataclass(frozen=True)
class Estimate:
    """A measured number and its error.

    Attributes:
        value: the estimate, or None where the number does not exist.
        standard_error: one Monte Carlo standard error, same unit; 0.0 only where exact.
        unit: "nats", "1" (a share or ratio), "sd" (of the reference), "count".
        n: number of draws behind it.
        floor: what the same statistic gives for a perfect fit, or None.
        reason: why `value` is None, in words.
        worst_of: how many it was picked from as the worst, where they are not listed.
        bound: "least" where the truth is likely to be above, "most" where below, by more than
            the error tells: a tail is too heavy for so few draws.
    """

    value: float | None
    standard_error: float | None = None
    unit: str = "1"
    n: int | None = None
    floor: float | None = None
    reason: str = ""
    worst_of: int = 1
    bound: Bound = ""

    @classmethod
    def missing(cls, reason: str, unit: str = "1") -> Estimate:
        return cls(None, None, unit, reason=reason)

    @classmethod
    def mean(
        cls,
        integrand,
        unit: str = "1",
        *,
        plus: Estimate | None = None,
        effective: float | None = None,
        rounding: float = 0.0,
        unbounded: bool = False,
    ) -> Estimate:
        """Mean of draws (n,), with s/√n; `plus` is an independent term to add, `effective`
        takes the place of n in the error where the draws are correlated. `rounding` is by how
        much floating point can move it: part of the error, and what is smaller is 0.
        Where the integrand is `unbounded` above, its tail is looked at: the mean of one that is
        too heavy is a bound from below.

        A mean that is not finite is no number: it comes back missing, with the share
        of draws to blame.
        """
        x = np.asarray(integrand, dtype=float)
        if not np.isfinite(x).all():
            bad = int((~np.isfinite(x)).sum())
            return cls.missing(f"{bad} of {x.size} draws have no finite value", unit)
        value, variance = float(x.mean()), float(x.var(ddof=1)) / (effective or x.size)
        if plus is not None:
            if plus.value is None:
                return cls.missing(plus.reason, unit)
            value += plus.value
            variance += (plus.standard_error or 0.0) ** 2
        value = 0.0 if abs(value) <= rounding else value
        bound: Bound = plus.bound if plus else ""
        if unbounded and too_heavy_to_average(x):
            bound = "least"
        error = float(np.hypot(np.sqrt(variance), rounding))
        return cls(value, error, unit, x.size, bound=bound)

    def or_missing(self) -> Estimate:
        """The same number, or none where it is not finite."""
        if self.value is None or math.isfinite(self.value):
            return self
        return Estimate.missing(self.reason or f"it came out as {self.value}", self.unit)

    def minus(self) -> Estimate:
        """The same number with its sign turned."""
        if self.value is None:
            return self
        return replace(self, value=0.0 - self.value, bound=OPPOSITE[self.bound])

    @classmethod
    def share(cls, hits, *, floor: float | None = None, effective: float | None = None) -> Estimate:
        """Share of true entries (n,), with the standard error of an Agresti-Coull
        proportion: it is not zero when no draw, or every draw, is a hit. `effective` as
        in `mean`."""
        hit = np.asarray(hits, dtype=bool)
        share, n = float(hit.mean()), effective or hit.size
        smoothed = (share * n + 2.0) / (n + 4.0)
        error = float(np.sqrt(smoothed * (1 - smoothed) / (n + 4.0)))
        return cls(share, error, "1", hit.size, floor)


def worst(by: Mapping[str, Estimate], badness: Callable[[float], float]) -> dict[str, Estimate]:
    """The estimates with the worst of them as the headline; `badness` says what is worse."""
    if not by:
        return {ALL: Estimate.missing(NO_MARGIN)}
    known = [e for e in by.values() if e.value is not None and math.isfinite(e.value)]
    if not known:
        return {ALL: next(iter(by.values())), **by}
    return {ALL: max(known, key=lambda e: badness(e.value)), **by}  # type: ignore[arg-type]


def worst_few(
    values: Mapping[str, float],
    badness: Callable[[float], float],
    estimate: Callable[[str], Estimate],
    most: int = 5,
) -> dict[str, Estimate]:
    """The worst as the headline, and the worst few by name.

    Args:
        values: {label: value}.
        badness: of a value; the larger, the worse.
        estimate: of a label, with its error; asked for those that are listed alone.
        most: labels that are listed; results of many parameters must stay small.
    """
    if not values:
        return {ALL: Estimate.missing(NO_MARGIN)}
    ranked = sorted(values, key=lambda label: -badness(values[label]))
    by = {label: estimate(label) for label in ranked[:most]}
    return {ALL: replace(by[ranked[0]], worst_of=len(values)), **by}


# Of every axis of a site: what its entries are called, or None where they are counted.
Coordinates = tuple[tuple[str | int | float, ...] | None, ...]


def texts(coordinate: Sequence[str | int | float] | None) -> list[str] | None:
    """What the entries along one axis are called; None where its values only count from 0, as
    ArviZ's own do. Numbers have as many digits as tell them apart."""
    if coordinate is None or list(coordinate) == list(range(len(coordinate))):
        return None
    for digits in (6, 9, 12, 17):
        found = [f"{x:.{digits}g}" if isinstance(x, float) else str(x) for x in coordinate]
        if len(set(found)) == len(found):
            break
    return found


def labels(site: str, shape: tuple[int, ...], coords: Coordinates = ()) -> list[str]:
    """What the entries of a site are called, the last axis first to move: ``x``, ``beta[0]``,
    ``L[1,0]``, and where an axis has coordinates ``theta[school A, 2]``."""
    named = [texts(axis) for axis in coords]
    if not any(named):
        indices = np.ndindex(*shape)
        return [f"{site}[{','.join(map(str, index))}]" if index else site for index in indices]
    axes = [own or map(str, range(n)) for own, n in zip(named, shape, strict=True)]
    return [f"{site}[{', '.join(entry)}]" for entry in product(*axes)]


def entries(
    values: Mapping[str, Any], coords: Mapping[str, Coordinates] | None = None
) -> dict[str, np.ndarray]:
    """Every scalar entry of every site {site: (n, ...)} as one (n,) array, by its label."""
    out: dict[str, np.ndarray] = {}
    for site, value in values.items():
        array = np.asarray(value)
        shape = array.shape[1:]
        names = labels(site, shape, (coords or {}).get(site, ()))
        for label, index in zip(names, np.ndindex(*shape), strict=True):
            out[label] = array[(slice(None), *index)]
    return out


def margins(
    values: Mapping[str, Any], coords: Mapping[str, Coordinates] | None = None
) -> dict[str, np.ndarray]:
    """The entries that vary, and are numbers everywhere: the upper triangle of a Cholesky factor is
    no margin, nor is a logarithm of what may be below 0."""
    is_margin = lambda x: (x != x[:1]).any() and np.isfinite(x).all()
    return {label: x for label, x in entries(values, coords).items() if is_margin(x)}
