"""Simulation-based calibration of a guide: what ``vi-compare calibrate`` does.

Data sets are made of known values; the guide is fitted to each; the values must rank evenly among
the draws of their fits. No draws of the target are needed, so this sees what a reference and a fit
miss alike.

- around the prior: values are drawn from it (Talts et al. 2018; for variational fits Yao et al.
  2018, "Yes, but did it work?"). It asks of the method, over all data that the model can make.
- around the posterior: values are drawn from the posterior given the observed data, by the study's
  reference, or else by the fit; the refits are given the observed and the simulated data
  (Säilynoja et al. 2025, "Posterior SBC"). It asks near the data at hand, of what can be
  reached from there: a mode that the source of the values never visits stays out of sight.

Beside every margin the log density itself is ranked, which depends on data and values together and
sees what no margin does (Modrák et al. 2023, "Simulation-based calibration checking for Bayesian
computation").
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import cached_property
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from vi_compare.approximation import GuideApproximation
from vi_compare.calibration.facts import results
from vi_compare.calibration.kept import Ranks
from vi_compare.calibration.ranks import RankTests
from vi_compare.calibration.refits import Refitter, refitter
from vi_compare.calibration.replicate import (
    Data,
    Replicate,
    refuse_what_makes_no_data,
    simulated,
)
from vi_compare.errors import InputError, nearest
from vi_compare.estimate import labels
from vi_compare.evidence import Draws
from vi_compare.families import family
from vi_compare.randomness import generator, key_for, split
from vi_compare.run.environment import environment, this_command
from vi_compare.run.labels import FitLabel
from vi_compare.run.plans import as_wanted, stand_in
from vi_compare.run.prepared import Prepared
from vi_compare.run.progress import Observer
from vi_compare.settings import Settings
from vi_compare.starts import starting_points
from vi_compare.study import Study
from vi_compare.target import Target
from vi_compare.timing import timed
from vi_compare.verdict import Doubt


class Around(StrEnum):
    """Where the true values of the data sets come from."""

    PRIOR = "prior"
    POSTERIOR = "posterior"

    @classmethod
    def parse(cls, text: str) -> Around:
        """
        Raises:
            InputError: when it is neither.
        """
        known = [one.value for one in cls]
        if text not in known:
            raise InputError(
                f"--around is prior or posterior, not {text!r}; {nearest(text, known)}"
            )
        return cls(text)


@dataclass(frozen=True)
class CalibrationSettings:
    """How a guide is calibrated.

    Attributes:
        around: where the true values come from.
        simulations: number of data sets.
        draws: of every refit that a value is ranked among; as many ranks and one more are possible.
        pause: seconds between two savings of the ranks.
        alive: draws of the fit that tell which entries vary.
    """

    around: Around = Around.PRIOR
    simulations: int = 200
    draws: int = 1_999
    pause: float = 5.0
    alive: int = 256

    def __post_init__(self):
        if self.simulations < (least := RankTests().least):
            raise InputError(
                f"--simulations is {self.simulations}, too few to see anything; give at least "
                f"{least}, or leave it out for 200"
            )


@dataclass(frozen=True)
class Calibrator:
    """A calibration whose input has been checked.

    Attributes:
        prepared: the study of the one fit.
        settings: how it is calibrated.
    """

    prepared: Prepared
    settings: CalibrationSettings

    @classmethod
    def of(
        cls, study: Study, run: Settings, settings: CalibrationSettings, observer: Observer
    ) -> Calibrator:
        """
        Args:
            study: whose first fit is calibrated.

        Raises:
            InputError: when data cannot be simulated from the model, the fit cannot be refitted,
                or `run` asks for a reference that is not used.
        """
        prior = settings.around is Around.PRIOR
        if prior and run.reference is not None:
            raise InputError(
                "--reference is where --around posterior takes its values from; --around prior "
                "needs none, so leave it out"
            )
        target = study.target()
        _refuse_unless_fitted_anew(study, target)
        refuse_what_makes_no_data(target, prior)
        run = replace(run, reference="none") if prior else run
        return cls(study.prepare(run, observer), settings)

    def run(self, folder: Path, observer: Observer) -> tuple[dict[str, Any], Ranks]:
        """The content of ``calibration.json``, and the ranks behind it; these are kept in the
        folder while they are made, and what is kept there of the same question is taken up.

        Raises:
            InputError: when the fit to the observed data fails, or the folder cannot be written.
        """
        began = time.perf_counter()
        (plan,) = self.prepared.plans
        fit, _ = self.prepared.fit(plan, "", observer)
        if not isinstance(fit.approximation, GuideApproximation):
            raise InputError(f"{plan.name} cannot be fitted to the observed data: {fit.message}")
        if not fit.optimises_divergence:
            raise InputError(
                f"{plan.name} is no optimum of {plan.divergence_text}, which a refit goes to; "
                f"calibrate {plan.guide_text}/{plan.divergence_text}"
            )
        observer.begin("setting up the simulation", quiet=True)
        rounds = _Rounds(self, fit.approximation)
        observer.end("")
        with timed("calibrating"):
            ranks, taken_up = self._ranks(rounds, folder, observer)
        ranks = ranks.first(self.settings.simulations)
        facts = results(ranks, rounds.sites, self.prepared.judge, plan.name, rounds.worth)
        told = {
            "around": self.settings.around.value,
            "values_from": rounds.source,
            "draws": self.settings.draws,
            "doubts": [doubt.words for doubt in rounds.doubts],
            "observed_fit": {"status": fit.status.value, "message": fit.message},
            "taken_up": taken_up,
            "seconds": time.perf_counter() - began,
        }
        target = {
            "name": self.prepared.name,
            "description": self.prepared.description,
            "dim": self.prepared.target.dim,
        }
        seed = self.prepared.settings.seed
        made = {"environment": environment(seed, {}, this_command())}
        return {"schema": 1, "target": target, **told, **facts, **made}, ranks

    def _ranks(self, rounds: _Rounds, folder: Path, observer: Observer) -> tuple[Ranks, int]:
        """All ranks, and how many of them had been kept."""
        ranks, n = rounds.none, self.settings.simulations
        kept = Ranks.load(folder)
        observer.begin(f"calibrating {self.prepared.plans[0].name}")
        if kept is not None and ranks.goes_on_from(kept):
            ranks = kept
        taken_up = len(ranks)
        saved = time.perf_counter()
        try:
            for number in range(len(ranks), n):
                observer.progress(number, n, f"{int((~ranks.converged).sum())} not converged")
                ranks = ranks.and_more(*rounds.one(number))
                if time.perf_counter() - saved > self.settings.pause:
                    ranks.save(folder)
                    saved = time.perf_counter()
        finally:
            # Ctrl-C keeps what is done, too.
            if len(ranks) > taken_up:
                ranks.save(folder)
        observer.end(_words(ranks, taken_up, kept is not None))
        return ranks, taken_up

    @property
    def key(self) -> Array:
        """Of all values and data sets: two guides are calibrated on the same ones."""
        return key_for(self.prepared.settings.seed, f"calibration/{self.settings.around}")


class _Rounds:
    """One data set after another: a true value, data, a refit, ranks.

    Attributes:
        sites: {label: the site or quantity that it is an entry of}, of the margins that are
            ranked; labels: these labels (M,).
        order: names of the sites and quantities, as margins follow one another.
        source: where the true values come from: "prior", "fit", or as the reference has it.
        worth: independent draws that they are taken from.
    """

    def __init__(self, calibrator: Calibrator, q: GuideApproximation):
        self.calibrator, self.q, self.target = calibrator, q, q.target
        self.beside = calibrator.settings.around is Around.POSTERIOR
        (plan,) = calibrator.prepared.plans
        assert plan.divergence is not None
        self.refits: Refitter = refitter(q, plan.divergence, self.beside)
        self.plan = plan
        computed = [one.name for one in self.target.quantities]
        self.order = [*(site.name for site in self.target.sites), *computed]
        drawn = self._drawn_from_fit(calibrator.settings.alive)
        every = [(x, name) for name in self.order for x in self._entries(drawn.values[name], name)]
        alive = drawn.margins()
        self.margins = np.array([i for i, (label, _) in enumerate(every) if label in alive], int)
        # The log density is of no site.
        self.sites = dict(every[i] for i in self.margins) | {"log p": ""}
        self.labels = list(self.sites)
        self.source, self.values = self._source()
        self.worth = self._worth()
        self.from_prior = jax.jit(self._from_prior)
        self.from_values = jax.jit(self._from_values)
        self.rank = jax.jit(self._rank)

    def _entries(self, value: Array, name: str) -> list[str]:
        return labels(name, value.shape[1:], self.target.coords.get(name, ()))

    @cached_property
    def none(self) -> Ranks:
        """No ranks yet, of this question."""
        settings, prepared = self.calibrator.settings, self.calibrator.prepared
        versions = environment(0, {}, "")["versions"]
        identity = {
            "fit": self.plan.full,
            "around": settings.around.value,
            "seed": prepared.settings.seed,
            "draws": settings.draws,
            "restarts": prepared.restarts,
            "values": self.source,
            "margins": self.labels,
            "precision": str(jnp.result_type(float)),
            "versions": {name: versions[name] for name in ("vi-compare", "numpyro", "jax")},
        }
        return Ranks.none(identity, self._probe(), len(self.labels))

    def one(self, number: int) -> tuple[np.ndarray, bool, bool]:
        """Ranks (M,) of a data set, whether its refit has converged, and whether it failed."""
        u, values, data, refit_key, rank_key = self._data_set(number)
        refit = self.refits.refit(data, refit_key)
        if refit.params is None:
            return np.full(len(self.labels), np.nan), False, True
        ps = np.asarray(self.rank(refit.params, data, rank_key, u, values), float)
        return ps, refit.converged, False

    def _data_set(self, number: int):
        key = jax.random.fold_in(self.calibrator.key, number)
        data_key, refit_key, rank_key = split(key, 3)
        if self.values is None:
            return *self.from_prior(data_key), refit_key, rank_key
        row = number % len(self.values)
        values = {name: value[row] for name, value in self.values.values.items()}
        return *self.from_values(data_key, self.values.u[row], values), refit_key, rank_key

    def _source(self) -> tuple[str, Draws | None]:
        """The true values of posterior SBC, in a random order; None for the prior's."""
        reference = self.calibrator.prepared.reference
        if not self.beside:
            return "prior", None
        if reference is None:
            return "fit", self._drawn_from_fit(self.calibrator.prepared.settings.number_of_draws)
        # Neighbours in a chain are alike.
        order = generator(self.calibrator.key).permutation(len(reference.test))
        return reference.source, reference.test[order]

    @property
    def doubts(self) -> tuple[Doubt, ...]:
        """What is held against the draws that the true values come from."""
        reference = self.calibrator.prepared.reference
        return reference.doubts if reference and self.beside else ()

    def _worth(self, share: float = 2.0) -> float:
        """
        Raises:
            InputError: where the data sets are more than 1 / `share` of it, or than the draws.
        """
        reference, n = self.calibrator.prepared.reference, self.calibrator.settings.simulations
        known = reference.diagnosis if reference and self.beside else None
        worth = float(known.ess) if known else np.inf
        most = np.inf if self.values is None else min(worth / share, len(self.values))
        if n > most:
            raise InputError(
                f"the draws of the posterior are good for {most:.0f} data sets, more would show "
                f"their own errors; give --simulations {most:.0f}, or --effort thorough"
            )
        return worth

    def _drawn_from_fit(self, n: int) -> Draws:
        key = key_for(self.calibrator.prepared.settings.seed, f"{self.plan.full}/calibration")
        return self.q.sample(key, n)

    def _from_prior(self, key: Array) -> tuple[Array, Array, Data]:
        made = simulated(self.target, key)
        u = self.target.unconstrain(made.values)
        # A value at the edge of its support may be lost on the way to u and back.
        return u, self._flat(self.target.everything(u) | made.values), made.data

    def _from_values(self, key: Array, u: Array, values: dict) -> tuple[Array, Array, Data]:
        latent = {site.name: values[site.name] for site in self.target.sites}
        return u, self._flat(values), simulated(self.target, key, latent).data

    def _flat(self, values: dict[str, Array]) -> Array:
        """The margins (M − 1,) of one draw."""
        # A dict that has been through compiled code is in alphabetical order.
        return jnp.concatenate([jnp.ravel(values[name]) for name in self.order])[self.margins]

    def _rank(self, params: dict, data: Data, key: Array, u: Array, values: Array) -> Array:
        """Shares (M,) of the draws of a refit that are below the true values; ties are broken at
        random."""
        draw_key, tie_key = jax.random.split(key)
        q = GuideApproximation(self.q.guide, params, self.target)
        posterior = Replicate.of(self.target, data, self.beside)
        both = lambda one: jnp.append(
            self._flat(self.target.everything(one)), posterior.log_density(one)
        )
        n = self.calibrator.settings.draws
        drawn = self.target.over_points(both)(jax.vmap(q.draw)(jax.random.split(draw_key, n)))
        true = jnp.append(values, posterior.log_density(u))
        below, ties = (drawn < true).sum(axis=0), (drawn == true).sum(axis=0)
        p = (below + jax.random.uniform(tie_key, true.shape) * (ties + 1)) / (n + 1)
        return jnp.where(jnp.isfinite(true), p, jnp.nan)

    def _probe(self) -> np.ndarray:
        """What the model and its data determine: log p at points, and the first data set."""
        points = starting_points(self.target, jax.random.key(0), 8)
        log_p = np.asarray(self.target.complete(points).log_p)
        _, values, data, _, _ = self._data_set(0)
        flat = [np.ravel(np.asarray(leaf, float)) for leaf in (values, *data.values())]
        return np.concatenate([log_p, *flat])


def _refuse_unless_fitted_anew(study: Study, target: Target) -> None:
    """Refuse fits that cannot follow other data."""
    wanted = as_wanted(study.fits[0], study.guides)
    if not isinstance(wanted, FitLabel):
        raise InputError(
            f"{wanted.name!r} is taken as it stands, and a calibration fits anew to simulated "
            f"data; name a fit as GUIDE/DIVERGENCE, e.g. mvn/reverse-kl"
        )
    divergence, guide = wanted.divergence.build(stand_in(target)), wanted.guide.build(target.model)
    if divergence.draws is not None:
        raise InputError(
            f"{wanted.name} is fitted to draws of the target, which simulated data do not bring "
            f"along; calibrate {wanted.guide.text}/reverse-kl or {wanted.guide.text}/wake"
        )
    if divergence.guide_with_state(target.model, guide) is not guide:
        raise InputError(
            f"{wanted.name} keeps a state from step to step, which no other data can go on from; "
            f"calibrate {wanted.guide.text}/reverse-kl or {wanted.guide.text}/wake"
        )
    if family(guide).sits_at_a_mode:
        raise InputError(
            f"{wanted.guide.text} is the curvature at a mode for the observed data alone; "
            f"calibrate mvn/reverse-kl"
        )


def _words(ranks: Ranks, taken_up: int, known: bool) -> str:
    lost = int((~ranks.converged).sum())
    parts = [f"{len(ranks)} data sets", f"{lost} refits not converged" if lost else ""]
    parts += [f"{taken_up} of them made before"] if taken_up else []
    anew = "begun anew, as what was kept is of another fit, model, seed or setting"
    parts += [anew] if known and not taken_up else []
    return "; ".join(filter(None, parts))
