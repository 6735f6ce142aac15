"""The records that everything passes on: draws, estimates, and the evidence on one fit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from vi_compare.estimate import (
    ALL,
    About,
    Bound,
    Coordinates,
    Estimate,
    MetricKind,
    entries,
    margins,
    worst,
)
from vi_compare.psis import usable_weights

__all__ = [
    "ALL",
    "NO_DATA",
    "NO_REFERENCE",
    "About",
    "Bound",
    "Draws",
    "Estimate",
    "Evidence",
    "Measure",
    "MetricKind",
    "Modes",
    "Response",
    "worst",
]

NO_REFERENCE = "there are no draws of the target to compare with"


@partial(
    jax.tree_util.register_dataclass,
    data_fields=["u", "values", "log_p", "log_q"],
    meta_fields=["reason", "chains", "coords"],
)
@dataclass(frozen=True)
class Draws:
    """n draws of one distribution, with the densities known at them.

    Attributes:
        u: (n, d) flat unconstrained vectors. Stored, never recovered from `values`.
        values: {site: (n, ...)} the same draws in the model's own space.
        log_p: (n,) log density of the target over u, up to its normaliser; or None.
        log_q: (n,) log density of the approximation over u; or None.
        reason: why a density is None, in words; "" when none is missing.
        chains: the draws are so many Markov chains of equal length, one after another;
            0 for independent draws.
        coords: (site, coordinates of its axes) of those sites whose entries have names.
    """

    u: Array
    values: dict[str, Array]
    log_p: Array | None = None
    log_q: Array | None = None
    reason: str = ""
    chains: int = 0
    coords: tuple[tuple[str, Coordinates], ...] = ()

    def __len__(self) -> int:
        return self.u.shape[0]

    def __getitem__(self, index) -> Draws:
        return jax.tree.map(lambda a: a[index], self)

    @property
    def by_chain(self) -> np.ndarray:
        """(chains, n ÷ chains) numbers of the draws; independent ones are a single chain."""
        return np.arange(len(self)).reshape(max(1, self.chains), -1)

    def every(self, step: int) -> Draws:
        """Every so many-th draw of every chain."""
        return self[self.by_chain[:, ::step].reshape(-1)]

    def entries(self) -> dict[str, np.ndarray]:
        """{label: (n,)} of every scalar entry of every site."""
        return entries(self.values, dict(self.coords))

    def margins(self) -> dict[str, np.ndarray]:
        """{label: (n,)} of the entries that vary."""
        return margins(self.values, dict(self.coords))

    @property
    def log_w(self) -> np.ndarray | None:
        """log p̃ − log q (n,), the log importance weights; None where a density is not known.

        Weights that differ by rounding alone are all equal: noise of 1e-14 is no evidence.
        """
        if self.log_p is None or self.log_q is None:
            return None
        found = np.asarray(self.log_p, float) - np.asarray(self.log_q, float)
        with np.errstate(invalid="ignore"):
            equal = np.ptp(found) <= self.rounding
        return np.full_like(found, np.median(found)) if equal else found

    def log_ratio(self) -> tuple[np.ndarray | None, str]:
        """`log_w` (n,) where all of it is finite; or None and the reason."""
        found = self.log_w
        if found is None:
            return None, self.reason
        return (found, "") if np.isfinite(found).all() else (None, "some weights are not finite")

    def usable_weights(self) -> tuple[np.ndarray | None, str]:
        """Smoothed weights (n,), which add up to 1; or None and the reason."""
        log_weights, reason = self.log_ratio()
        return (None, reason) if log_weights is None else usable_weights(log_weights)

    @property
    def rounding(self) -> float:
        """Nats by which floating point alone can move `log_w`: some hundred units in the last
        place of the densities, which are sums of many terms."""
        if self.log_p is None or self.log_q is None:
            return 0.0
        sizes = np.abs(np.asarray(self.log_p)) + np.abs(np.asarray(self.log_q))
        finite = sizes[np.isfinite(sizes)]
        typical = 1.0 + (float(np.median(finite)) if finite.size else 0.0)
        return 128 * float(jnp.finfo(jnp.result_type(self.log_p)).eps) * typical

    def effective(self, integrand) -> float:
        """Independent draws that would give a mean of `integrand` (n,) the same error."""
        return effective(np.asarray(integrand, dtype=float), self.chains)


@dataclass(frozen=True)
class Modes:
    """The basins of log p over u that anybody found, and how much of each set is in which.

    Attributes:
        names: (M,) for people, the mode of most target mass first.
        target, floor, fit: (M,) shares of the `test`, the `floor` and the fit's draws
            whose ascent ends there.
        n: how many draws of each set were assigned.
        effective: (M,) independent draws that the target's shares are worth; None for n.
    """

    names: tuple[str, ...]
    target: np.ndarray
    floor: np.ndarray
    fit: np.ndarray
    n: int
    effective: np.ndarray | None = None

    @property
    def target_n(self) -> np.ndarray:
        """(M,)"""
        return np.full(len(self.names), self.n) if self.effective is None else self.effective


class Margins(NamedTuple):
    """{label: (n,)} of every entry that varies in the target, under each of three sets.

    Attributes:
        q, p, again: of the fit's draws, of `test` and of `floor`; empty where there is no such
            set.
    """

    q: dict[str, np.ndarray]
    p: dict[str, np.ndarray]
    again: dict[str, np.ndarray]


@dataclass(frozen=True)
class Response:
    """What linear response makes of a fit.

    Attributes:
        sds: {label: corrected standard deviation} of every entry, in its own unit, with the error
            that it has from how it was computed; empty where there is a `reason`.
        reason: why there are none, in words.
    """

    sds: Mapping[str, Estimate] = field(default_factory=dict)
    reason: str = ""


NO_DATA = {ALL: Estimate.missing("nothing is observed", "nats")}


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
        elpd_loss: {label: nats of predictive log density that q loses to the reference}.
        response: the fit corrected by linear response, or why there is no such correction.
    """

    q: Draws
    test: Draws | None
    floor: Draws | None
    log_z: Estimate
    modes: Modes | None = None
    modes_reason: str = ""
    training_floor: float | None = None
    elpd_loss: Mapping[str, Estimate] = field(default_factory=lambda: NO_DATA)
    response: Response = Response(reason="linear response was not asked for")

    @cached_property
    def margins(self) -> Margins:
        p = self.test.margins() if self.test else {}
        q, again = (draws.entries() if draws else {} for draws in (self.q, self.floor))
        return Margins({k: q[k] for k in p}, p, {k: again[k] for k in p if again})

    def above(self, plus: Estimate | None = None) -> Estimate:
        """E_p[log p̃ − log q] in nats, from draws of the target, plus an independent term."""
        test = self.test
        if test is None:
            return Estimate.missing(NO_REFERENCE, "nats")
        cost = test.log_w
        if cost is None:
            return Estimate.missing(test.reason, "nats")
        effective = test.effective(cost)
        return Estimate.mean(
            cost, "nats", plus=plus, effective=effective, rounding=test.rounding, unbounded=True
        )

    def below(self, plus: Estimate | None = None) -> Estimate:
        """E_q[log q − log p̃] in nats, from draws of the fit, plus an independent term."""
        return below(self.q, plus)


def below(q: Draws, plus: Estimate | None = None) -> Estimate:
    """E_q[log q − log p̃] in nats, the negative ELBO, from draws of q, plus an independent term."""
    log_w = q.log_w
    if log_w is None:
        return Estimate.missing(q.reason, "nats")
    return Estimate.mean(-log_w, "nats", plus=plus, rounding=q.rounding, unbounded=True)


def effective(x: np.ndarray, chains: int, many: int = 16) -> float:
    """Effective sample size of the mean of x (n,), at most n (Vehtari et al. 2021).

    A chain that never moves while another sits elsewhere is worth a single draw; of a tail that
    short chains now and then do not visit, as `many` of them as there are tell by their means.
    """
    if not chains or np.ptp(x) == 0:
        return float(x.size)
    rows = x.reshape(chains, -1)
    if (np.ptp(rows, axis=1) == 0).any():
        if chains < many:
            return float(chains)
        return float(np.clip(chains * worth(rows), 1.0, x.size))
    from arviz_stats.base import array_stats

    found = float(array_stats.ess(rows, method="mean"))
    return float(np.clip(found, 1.0, x.size)) if np.isfinite(found) else 1.0


def worth(rows: np.ndarray) -> np.ndarray:
    """Independent draws that each of many chains (..., chains, n) is worth, (...): the variance of
    all draws ÷ that of the chains' means."""
    between = rows.mean(axis=-1).var(axis=-1, ddof=1)
    return rows.var(axis=(-2, -1)) / np.maximum(between, 1e-300)


class Measure(Protocol):
    """What a file in ``metrics/`` exports as ``measure``, beside its ``ABOUT``:
    ``measure(evidence) -> {label: Estimate}``; the label ``ALL`` is the headline."""

    def __call__(self, evidence: Evidence) -> Mapping[str, Estimate]: ...
