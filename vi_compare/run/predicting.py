"""Predictions of the data while a study runs: of the reference once, and of every fit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from vi_compare.comparison import number
from vi_compare.evidence import ALL, NO_REFERENCE, Draws, Estimate
from vi_compare.predictions.checks import Check, check
from vi_compare.predictions.loo import LeftOut, total, why_not
from vi_compare.predictions.loss import loss
from vi_compare.predictions.observed import Observed, Pointwise, mixture, observed, pointwise
from vi_compare.randomness import generator, key_for
from vi_compare.reference import Reference
from vi_compare.target import Target
from vi_compare.target.work import afforded


@dataclass(frozen=True)
class Looked:
    """How much is looked at.

    Attributes:
        draws: of each distribution, at most and at least.
        operations: that they may take all together.
        observations: of a site, at most.
        replicates: of each observation, at most and at least, at which predictive densities are
            compared; so many that there are as many points
        points: in all.
        level: of the test whether observations are as predicted, before it is shared among the
            sites: a model that is right is called wrong this often.
    """

    draws: tuple[int, int] = (2_000, 500)
    operations: float = 2e9
    observations: int = 1_000
    replicates: tuple[int, int] = (256, 16)
    points: int = 16_000
    level: float = 0.01

    @property
    def most_bytes(self) -> int:
        """Of what is kept of the observations of a site, for one distribution, at most."""
        return 2 * 4 * self.draws[0] * self.observations


@dataclass(frozen=True, eq=False)
class Predicted:
    """What one distribution predicts.

    Attributes:
        rows: (draws,) which of its draws were asked.
        draws: these.
        at: {site: what they say of its observations}.
        left_out: {site: each observation left out}; empty where weights cannot do that.
        checks: {site: check of the observations against what is predicted}.
        reasons: {site: why nothing is said of it}.
        no_elpd: why no observation can be left out.
        loss: {label: nats lost to the reference}.
    """

    rows: np.ndarray
    draws: Draws
    at: dict[str, Pointwise]
    left_out: dict[str, LeftOut]
    checks: dict[str, Check]
    reasons: dict[str, str]
    no_elpd: str
    loss: dict[str, Estimate]


@dataclass(frozen=True, eq=False)
class Predictor:
    """Asks every distribution of a study the same of the same observations.

    Attributes:
        target, seed, looked: of what, and how much of it.
        sites: that are observed; reasons: {site: why it is left out}.
        reference: what draws of the target predict; None without any.
        again: {site: (r, n)} replicates of the observations by the reference, and
        density: their log predictive density.
        floor: {label: nats that other draws of the target lose}.
    """

    target: Target
    seed: int
    looked: Looked
    sites: list[Observed]
    reasons: dict[str, str]
    reference: Predicted | None = None
    again: dict[str, np.ndarray] = field(default_factory=dict)
    density: dict[str, np.ndarray] = field(default_factory=dict)
    floor: dict[str, Estimate] = field(default_factory=dict)

    @classmethod
    def of(
        cls, target: Target, seed: int, reference: Reference | None, others: Sequence[Draws | None]
    ) -> Predictor:
        """`others`: draws of fits; the model is run at some of these without a reference."""
        known = (reference.test, reference.floor) if reference else ()
        looked, drawn = Looked(), [q for q in (*known, *others) if q is not None]
        if target.normalised or not drawn:
            return cls(target, seed, looked, [], {})
        key = key_for(seed, "observed")
        plain = cls(target, seed, looked, *observed(target, drawn[0], key, looked.observations))
        return plain._with(*known) if known and plain.sites else plain

    def _with(self, test: Draws, floor: Draws) -> Predictor:
        """The same with what draws of the target predict, and others of them lose."""
        own = self._asked(test, "reference", None)
        drawn = {name: one.replicates for name, one in own.at.items() if one.replicates is not None}
        most, fewest = self.looked.replicates
        n = self.looked.points // sum(len(site.rows) for site in self.sites)
        at = np.linspace(0, len(own.rows) - 1, min(most, max(fewest, n))).astype(int)
        again = {name: made[at] for name, made in drawn.items()}
        known = replace(self, reference=own, again=again)
        known = replace(known, density=known._density(own.draws))
        return replace(known, floor=known._lost(floor[_rows(floor, self._most)]))

    def _density(self, draws: Draws) -> dict[str, np.ndarray]:
        """{site: log predictive density (r, n)} of the replicates."""
        rows = {s.name: jnp.asarray(s.rows) for s in self.sites if s.name in self.again}
        if not rows:
            return {}
        values = {site.name: draws.values[site.name] for site in self.target.sites}
        return jax.tree.map(np.asarray, mixture(self.target, rows, values, self.again))

    def fit(self, draws: Draws, name: str) -> Predicted | None:
        """What a fit predicts; None where nothing is observed. Random numbers derive from its
        `name`."""
        if not self.sites:
            return None
        rows = _rows(draws, self._most)
        # Of all draws: where weights are all but equal, few of them seem to have a tail.
        weights, reason = draws.usable_weights()
        log_ratio = None if weights is None else draws[rows].log_w
        found = self._asked(draws, name, log_ratio, reason)
        return replace(found, loss=self._lost(found.draws))

    def _lost(self, draws: Draws) -> dict[str, Estimate]:
        if self.reference is None:
            return {ALL: Estimate.missing(NO_REFERENCE, "nats")}
        known = [site for site in self.sites if site.name in self.again]
        if not known:
            why = next((site.drawn for site in self.sites if site.drawn), "")
            return {ALL: Estimate.missing(why, "nats")}
        found = loss(known, self.density, self._density(draws))
        return {label: _beside(e, self.floor.get(label)) for label, e in found.items()}

    @cached_property
    def _most(self) -> int:
        most, fewest = self.looked.draws
        return afforded(self.looked.operations, self.target.operations, fewest, most)

    def _asked(
        self, draws: Draws, name: str, log_ratio: np.ndarray | None, reason: str = ""
    ) -> Predicted:
        """What is predicted; `reason`: why no weights can be had that leave anything out."""
        rows = _rows(draws, self._most)
        few = draws[rows]
        at = pointwise(self.target, self.sites, few, key_for(self.seed, f"{name}/predictive"))
        reasons = {site: why for site, one in at.items() if (why := why_not(one))}
        known = [site for site in self.sites if site.name not in reasons]
        left = {} if reason else {s.name: LeftOut(s, at[s.name], log_ratio) for s in known}
        rng = generator(key_for(self.seed, f"{name}/ranks"))
        checks = {name: check(at[name], one, rng) for name, one in left.items()}
        said = {site.name: at[site.name] for site in known}
        return Predicted(rows, few, said, left, checks, reasons, reason, {})

    def facts(self) -> dict[str, Any]:
        """As plain data."""
        return {
            "sites": {
                site.name: {
                    "outcomes": site.outcomes.value,
                    "observations": site.of,
                    "looked_at": len(site.rows),
                }
                for site in self.sites
            },
            "reasons": self.reasons,
            "level": self.looked.level,
            "reference": facts(self.reference),
        }


def _beside(e: Estimate, floor: Estimate | None) -> Estimate:
    """With the floor beside it, which is how far so few draws alone can move it."""
    if e.value is None or floor is None or floor.value is None:
        return e
    error = float(np.hypot(e.standard_error or 0.0, floor.value))
    return replace(e, standard_error=error, floor=floor.value)


def _rows(draws: Draws, most: int) -> np.ndarray:
    """Evenly from every chain, at most so many; of more chains than that, from some."""
    return draws.by_chain[:, :: max(1, -(-len(draws) // most))].reshape(-1)


def facts(predicted: Predicted | None) -> dict[str, Any] | None:
    """As plain data."""
    if predicted is None:
        return None
    left, why = predicted.left_out, predicted.no_elpd or next(iter(predicted.reasons.values()), "")
    elpd = total(list(left.values())) if left else Estimate.missing(why, "nats")
    return {
        "draws": len(predicted.rows),
        "elpd": _plain(elpd),
        "sites": {
            name: {
                "elpd": _plain(one.total),
                "influential": int(one.influential.sum()),
                "check": _check(predicted.checks[name]),
            }
            for name, one in left.items()
        },
        "reasons": predicted.reasons,
    }


def _plain(e: Estimate) -> dict[str, Any]:
    e = e.or_missing()
    reason = {"reason": e.reason} if e.value is None else {}
    return {"value": e.value, "standard_error": number(e.standard_error), **reason}


def _check(one: Check) -> dict[str, Any]:
    p = number(one.p_value)
    reason = {"reason": one.reason or "the test gave no number"} if p is None else {}
    return {"p_value": p, "below": number(one.below), "above": number(one.above), **reason}
