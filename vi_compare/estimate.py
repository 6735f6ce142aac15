"""Estimate: a measured number and its error. Needs NumPy alone, so that what reads saved
results does not wait for JAX."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

ALL = "all"  # the label of a metric's headline
# Margins that are listed one by one: results of many parameters must stay small.
LISTED = 5


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
    """

    value: float | None
    standard_error: float | None = None
    unit: str = "1"
    n: int | None = None
    floor: float | None = None
    reason: str = ""
    worst_of: int = 1

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
    ) -> Estimate:
        """Mean of draws (n,), with s/√n; `plus` is an independent term to add, `effective`
        takes the place of n in the error where the draws are correlated.

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
        return cls(value, float(np.sqrt(variance)), unit, x.size)

    def minus(self) -> Estimate:
        """The same number with its sign turned."""
        return self if self.value is None else replace(self, value=-self.value)

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
    known = [e for e in by.values() if e.value is not None]
    if not known:
        return {ALL: next(iter(by.values())), **by}
    return {ALL: max(known, key=lambda e: badness(e.value)), **by}  # type: ignore[arg-type]


def worst_few(
    values: Mapping[str, float],
    badness: Callable[[float], float],
    estimate: Callable[[str], Estimate],
) -> dict[str, Estimate]:
    """The worst as the headline, and the worst few by name.

    Args:
        values: {label: value}, not empty.
        badness: of a value; the larger, the worse.
        estimate: of a label, with its error; asked for those that are listed alone.
    """
    ranked = sorted(values, key=lambda label: -badness(values[label]))
    by = {label: estimate(label) for label in ranked[:LISTED]}
    return {ALL: replace(by[ranked[0]], worst_of=len(values)), **by}


def margin(site: str, index: tuple[int, ...]) -> str:
    """What one entry of a site is called: ``x``, ``beta[0]``, ``L[1,0]``."""
    return f"{site}[{','.join(map(str, index))}]" if index else site


def margins(values: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Every scalar coordinate of every site as one (n,) array: ``x``, ``beta[0]``, ``L[1,0]``."""
    out: dict[str, np.ndarray] = {}
    for site, value in values.items():
        array = np.asarray(value)
        for index in np.ndindex(array.shape[1:]):
            out[margin(site, index)] = array[(slice(None), *index)]
    return out
