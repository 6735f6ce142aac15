"""The records that everything passes on: draws, estimates, and the evidence on one fit."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Protocol

import jax
import numpy as np
from jax import Array


@partial(
    jax.tree_util.register_dataclass,
    data_fields=["u", "values", "log_p", "log_q"],
    meta_fields=["reason"],
)
@dataclass(frozen=True)
class Draws:
    """n independent draws of one distribution, with the densities known at them.

    Attributes:
        u: (n, d) flat unconstrained vectors. Stored, never recovered from `values`.
        values: {site: (n, ...)} the same draws in the model's own space.
        log_p: (n,) log density of the target over u, up to its normaliser; or None.
        log_q: (n,) log density of the approximation over u; or None.
        reason: why a density is None, in words; "" when none is missing.
    """

    u: Array
    values: dict[str, Array]
    log_p: Array | None = None
    log_q: Array | None = None
    reason: str = ""

    def __len__(self) -> int:
        return self.u.shape[0]

    def __getitem__(self, index) -> Draws:
        return jax.tree.map(lambda a: a[index], self)


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
    """

    value: float | None
    standard_error: float | None = None
    unit: str = "1"
    n: int | None = None
    floor: float | None = None
    reason: str = ""

    @classmethod
    def missing(cls, reason: str, unit: str = "1") -> Estimate:
        return cls(None, None, unit, reason=reason)

    @classmethod
    def mean(cls, integrand, unit: str = "1", *, plus: Estimate | None = None) -> Estimate:
        """Mean of independent draws (n,), with s/√n; `plus` is an independent term to add.

        A mean that is not finite is no number: it comes back missing, with the share
        of draws to blame.
        """
        x = np.asarray(integrand, dtype=float)
        if not np.isfinite(x).all():
            bad = int((~np.isfinite(x)).sum())
            return cls.missing(f"{bad} of {x.size} draws have no finite value", unit)
        value, variance = float(x.mean()), float(x.var(ddof=1)) / x.size
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
    def share(cls, hits, *, floor: float | None = None) -> Estimate:
        """Share of true entries (n,), with the standard error of an Agresti-Coull
        proportion: it is not zero when no draw, or every draw, is a hit."""
        hit = np.asarray(hits, dtype=bool)
        n, share = hit.size, float(hit.mean())
        smoothed = (hit.sum() + 2.0) / (n + 4.0)
        error = float(np.sqrt(smoothed * (1 - smoothed) / (n + 4.0)))
        return cls(share, error, "1", n, floor)


@dataclass(frozen=True)
class Modes:
    """The basins of log p over u that anybody found, and how much of each set is in which.

    Attributes:
        names: (M,) for people, the mode of most target mass first.
        target, floor, fit: (M,) shares of the `test`, the `floor` and the fit's draws
            whose ascent ends there.
        n: how many draws of each set were assigned.
    """

    names: tuple[str, ...]
    target: np.ndarray
    floor: np.ndarray
    fit: np.ndarray
    n: int


@dataclass(frozen=True)
class Evidence:
    """All that any metric may look at for one fit; computed once per study.

    Attributes:
        q: fresh draws of the fit, with log_p and log_q.
        test: draws of the target, with log_p and log_q; None without a reference.
        floor: a second, disjoint set of draws of the target, for noise floors.
        log_z: the target's log normaliser, or an Estimate with no value and the reason.
        modes: basin masses, or None with `modes_reason`.
        training_floor: nats that a forward fit loses by having seen finitely many draws.
    """

    q: Draws
    test: Draws | None
    floor: Draws | None
    log_z: Estimate
    modes: Modes | None = None
    modes_reason: str = ""
    training_floor: float | None = None


class Metric(Protocol):
    """``measure(evidence) -> {label: Estimate}``; the label ``ALL`` is the headline."""

    def __call__(self, evidence: Evidence) -> Mapping[str, Estimate]: ...


ALL = "all"
NO_REFERENCE = "there are no draws of the target to compare with"


def worst(by: Mapping[str, Estimate], badness: Callable[[float], float]) -> dict[str, Estimate]:
    """The estimates with the worst of them as the headline; `badness` says what is worse."""
    known = [e for e in by.values() if e.value is not None]
    if not known:
        return {ALL: next(iter(by.values())), **by}
    return {ALL: max(known, key=lambda e: badness(e.value)), **by}  # type: ignore[arg-type]


def margins(values: Mapping[str, Array]) -> dict[str, np.ndarray]:
    """Every scalar coordinate of every site as one (n,) array: ``x``, ``beta[0]``, ``L[1,0]``."""
    out: dict[str, np.ndarray] = {}
    for site, value in values.items():
        array = np.asarray(value)
        for index in np.ndindex(array.shape[1:]):
            label = f"{site}[{','.join(map(str, index))}]" if index else site
            out[label] = array[(slice(None), *index)]
    return out
