"""Running a study: fits, draws, evidence, metrics, verdicts, in this order."""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from vi_compare import catalogue
from vi_compare.approximation import GuideApproximation
from vi_compare.comparison import Comparison, fingerprint
from vi_compare.errors import InputError, last_line, told
from vi_compare.evidence import (
    ALL,
    NO_DATA,
    NO_REFERENCE,
    Draws,
    Estimate,
    Evidence,
    Response,
    below,
)
from vi_compare.metrics import abouts
from vi_compare.randomness import key_for
from vi_compare.reference import Reference
from vi_compare.reference.basins import BasinCheck, check_basins
from vi_compare.reference.drift import Drift, drift
from vi_compare.reference.log_z import (
    LogZ,
    OwnDraws,
    Proposal,
    held_to_bounds,
    log_normaliser,
    own_proposals,
)
from vi_compare.reference.modes import FoundModes, NoModes, find_modes
from vi_compare.reference.short_chains import within
from vi_compare.run import facts
from vi_compare.run.draws import MOST_BYTES, draws_tree, group_names
from vi_compare.run.drifts import of_drift
from vi_compare.run.environment import environment, this_command
from vi_compare.run.facts import Measured
from vi_compare.run.fitted import fitted
from vi_compare.run.judging import JUDGED, JUDGING, judged_by, only
from vi_compare.run.ladder import Ladder, Reached
from vi_compare.run.plans import Plan
from vi_compare.run.predicting import Looked, Predictor
from vi_compare.run.progress import Observer
from vi_compare.run.published import Published, compare
from vi_compare.run.response import response
from vi_compare.settings import EFFORTS, Settings
from vi_compare.solvers import Cost, Fit, Problem
from vi_compare.solvers._asked import asked
from vi_compare.target import Target
from vi_compare.timing import timed
from vi_compare.verdict import Doubt, Status, Word, judge


class _Steps:
    """Parts of a stage, one after another, shown as they begin."""

    def __init__(self, observer: Observer, total: int):
        self.observer, self.total, self.done = observer, total, 0

    def __call__(self, name: str) -> None:
        self.observer.progress(self.done, self.total, name)
        self.done += 1


@dataclass(frozen=True)
class Findings:
    """What was measured of some fits, and of the target beside them."""

    measured: list[Measured]
    log_z: LogZ
    modes: FoundModes | NoModes
    basins: BasinCheck
    predictor: Predictor


@dataclass(frozen=True)
class Prepared:
    """A study whose input has been checked.

    Attributes:
        name, description: of the target.
        settings, target, reference, plans, published: what to run.
        restarts: of every fit.
        source: where draws of the target come from: "exact", "chains", "nuts", "file" or
            "none".
        judge: names of the sites and quantities that verdicts rest on; empty for all.
        ladder: whose rungs are among the plans, and are made until one can be trusted; None where
            every plan is to be made.
        climb: how far it went.
    """

    name: str
    description: str
    settings: Settings
    target: Target
    reference: Reference | None
    plans: tuple[Plan, ...]
    published: tuple[Published, ...]
    restarts: int
    source: str
    judge: tuple[str, ...] = ()
    ladder: Ladder | None = None
    climb: Reached | None = None

    @property
    def bytes_to_keep(self) -> int:
        """Of the run folder, about: draws of the reference and of every fit, and the page."""
        numbers = self.target.numbers_of_a_draw
        most = math.inf if self.settings.keep_draws else MOST_BYTES
        a_fit = min(8 * numbers * self.settings.number_of_draws, most)
        a_fit += 0 if self.target.normalised else Looked().most_bytes
        return int(2_000_000 + (1 + len(self.plans)) * (1_000_000 + a_fit))

    def run(self, observer: Observer) -> Comparison:
        """Fit and measure everything."""
        if self.ladder is not None:
            return self._climbed(self.ladder, observer)
        n = len(self.plans)
        every = enumerate(self.plans, 1)
        solved = [self.fit(plan, f"fit {i} of {n}", observer) for i, plan in every]
        return self._compare(self._looked_at(solved, observer))

    def _climbed(self, ladder: Ladder, observer: Observer) -> Comparison:
        """Rung by rung until one is Faithful, by itself and by the evidence at hand; then the
        twins of the last, and all else that was asked for."""
        plans = {plan.name: plan for plan in self.plans}
        solved: dict[str, tuple[Fit, float]] = {}

        def make(name: str, place: str) -> None:
            solved[name] = self.fit(plans[name], place, observer)

        found = None
        for i, rung in enumerate(ladder.rungs, 1):
            make(rung, f"rung {i} of at most {len(ladder.rungs)}")
            alone = replace(self, plans=(plans[rung],), ladder=None)
            (measured,) = alone._looked_at([solved[rung]], observer).measured
            if measured.verdict.word is Word.FAITHFUL:
                found = rung
                break
        rungs = list(solved)
        twins = [ladder.twin(rung) for rung in rungs[-ladder.twins :]]
        of_ladder = {*ladder.rungs, *map(ladder.twin, ladder.rungs)}
        more = [name for name in plans if name in twins or name not in of_ladder]
        for i, name in enumerate(more, 1):
            make(name, f"fit {i} of {len(more)} beside the ladder")
        not_tried = [rung for rung in ladder.rungs if rung not in solved]
        climb = Reached(rungs, found, not_tried, ladder.left_out)
        made = replace(self, plans=tuple(plans[name] for name in solved), ladder=None, climb=climb)
        return made._compare(made._looked_at(list(solved.values()), observer))

    def _looked_at(self, solved: list[tuple[Fit, float]], observer: Observer) -> Findings:
        """Every fit of the plans measured, and what they share."""
        fits = [fit for fit, _ in solved]
        observer.begin("measuring")
        step = _Steps(observer, 4 + len(fits))
        with timed("measuring"):
            with timed("draws of the fits"):
                step("draws of the fits")
                draws = [self._draw(plan, fit) for plan, fit in zip(self.plans, fits, strict=True)]
            with timed("chains from the fits"):
                drifts = self._drifts(draws, observer)
            with timed("log Z"):
                step("log Z")
                log_z = held_to_bounds(self.log_z(fits), self._elbos(draws))
            with timed("modes"):
                step("modes of the target")
                modes = self._modes(draws)
                basins = self._check_basins(modes, fits, draws, log_z.estimate)
            with timed("predictions"):
                step("predictions of the data")
                predictor = self._predictor(draws)
            own = self.reference.doubts if self.reference else ()
            doubts = (*log_z.doubts, *own, *basins.doubts)
            measured = []
            for plan, (fit, seconds), q, drift in zip(
                self.plans, solved, draws, drifts, strict=True
            ):
                step(f"metrics of {plan.name}")
                known = (drift, log_z.estimate, modes, doubts, predictor)
                measured.append(self._measure(plan, fit, seconds, q, *known))
        observer.end("")
        return Findings(measured, log_z, modes, basins, predictor)

    def fit(self, plan: Plan, place: str, observer: Observer) -> tuple[Fit, float]:
        """What came of a plan, and the seconds that took."""
        observer.begin(plan.name, place)
        key = key_for(self.settings.seed, plan.full)
        problem = Problem(
            self.target, plan.guide, plan.divergence, key, self.restarts, observer.progress
        )
        with timed("fitting"), timed(plan.name):
            began = time.perf_counter()
            fit = _solved(plan, problem, self.reference.test if self.reference else None)
            seconds = time.perf_counter() - began
        observer.end("; ".join(filter(None, (f"{fit.status}: {fit.message}", fit.doubt))))
        return fit, seconds

    def _draw(self, plan: Plan, fit: Fit) -> Draws | None:
        if fit.approximation is None:
            return None
        key = key_for(self.settings.seed, f"{plan.full}/draws")
        return fit.approximation.sample(key, self.settings.number_of_draws)

    def _drifts(self, draws: Sequence[Draws | None], observer: Observer) -> list[Drift | None]:
        """Chains from the draws of every fit, where no finished reference tells more than they
        would; where a reference was declined they are, too."""
        declined = self.reference is None and self.settings.source is not None
        finished = self.reference is not None and not self.reference.is_unfinished
        if declined or finished:
            return [None] * len(draws)
        most = within(EFFORTS[self.settings.effort], self.target).most
        # Beside a reference they are an extra; without one they are all there is.
        each = most // (10 if self.reference else len(draws))
        keys = (key_for(self.settings.seed, f"{plan.full}/drift") for plan in self.plans)
        run = lambda q, key: drift(self.target, q, key, each, observer.progress)
        return [None if q is None else run(q, key) for q, key in zip(draws, keys, strict=True)]

    def log_z(self, fits: Sequence[Fit]) -> LogZ:
        """The target's log normaliser, bridged to the fits of all plans, and to others."""
        if self.target.normalised:
            return LogZ(Estimate(0.0, 0.0, "nats"), "exact")
        if self.reference is None:
            why = "the target is not normalised and there are no draws of it to find log Z with"
            return LogZ(Estimate.missing(f"{why}; compare the ELBO", "nats"), "")
        pilot, final = self.reference.pilot, self.reference.bridge
        proposals = {}
        for plan, fit in zip(self.plans, fits, strict=True):
            q = fit.approximation
            if isinstance(q, GuideApproximation):
                key = key_for(self.settings.seed, f"{plan.full}/bridge")
                own = partial(_log_w, q, key)
                proposals[plan.name] = Proposal(_log_q(q, pilot), _log_q(q, final), own)
        key = key_for(self.settings.seed, "log Z")
        # Fitted to draws that are used for nothing else, or overfitting would look like overlap.
        train = self.reference.floor
        proposals |= own_proposals(self.target, train, pilot, final, key)
        return log_normaliser(pilot, final, proposals, self.settings.number_of_draws // 2)

    def _elbos(self, draws: Sequence[Draws | None]) -> dict[str, Estimate]:
        """{fit: its ELBO in nats}; missing where it has no density."""
        known = zip(self.plans, draws, strict=True)
        return {plan.name: below(q).minus() for plan, q in known if q}

    def _check_basins(
        self, modes, fits: Sequence[Fit], draws: Sequence[Draws | None], log_z: Estimate
    ):
        """The reference's basin masses against those that the fits imply."""
        if isinstance(modes, NoModes) or len(modes.names) < 2:
            why = modes.reason if isinstance(modes, NoModes) else "there is a single mode"
            return BasinCheck(None, None, None, reason=why)
        known = {
            plan.name: (fit.approximation, q)
            for plan, fit, q in zip(self.plans, fits, draws, strict=True)
            if q is not None and isinstance(fit.approximation, GuideApproximation)
        }
        return check_basins(modes, _mixture_weights(modes, known), log_z)

    def _predictor(self, draws: Sequence[Draws | None]) -> Predictor:
        """Asks what is predicted of the data; knows what the reference predicts."""
        return Predictor.of(self.target, self.settings.seed, self.reference, draws)

    def _modes(self, draws: Sequence[Draws | None]) -> FoundModes | NoModes:
        if self.reference is None:
            return NoModes("there are no draws of the target to find modes from")
        sets = {"test": self.reference.test, "floor": self.reference.floor}
        sets |= {plan.name: q for plan, q in zip(self.plans, draws, strict=True) if q is not None}
        return find_modes(self.target, sets)

    def _measure(
        self,
        plan: Plan,
        fit: Fit,
        seconds: float,
        q: Draws | None,
        drift: Drift | None,
        log_z: Estimate,
        modes: FoundModes | NoModes,
        doubts: tuple[Doubt, ...],
        predictor: Predictor,
    ) -> Measured:
        if q is None or fit.approximation is None:
            verdict = judge(fit.status, fit.message, {}, abouts={})
            return Measured(plan, fit, seconds, None, {}, verdict)
        reference = self.reference
        with timed("log q of the reference"):
            test = fit.approximation.at(reference.test) if reference else None
        with timed("training floor"):
            floor = self._training_floor(plan, fit)
        with timed("linear response"):
            corrected = self._response(plan, fit)
        with timed("predictions"):
            predicted = predictor.fit(q, plan.full)
        evidence = Evidence(
            q,
            test,
            reference.floor if reference else None,
            log_z,
            None if isinstance(modes, NoModes) else modes.seen_by(plan.name),
            modes.reason if isinstance(modes, NoModes) else "",
            floor,
            predicted.loss if predicted else NO_DATA,
            corrected,
        )
        scores = _scores(evidence)
        drifted = of_drift(q, drift, scores, abouts()) if drift else None
        asked = partial(
            judge, fit.status, fit.message, caution=fit.doubt, remedy=fit.remedy, left=fit.left,
            doubts=doubts, abouts=abouts(),
        )  # fmt: skip
        verdict = asked(scores, drift=drifted)
        if self.judge:
            own = _scores(only(evidence, self.judge), JUDGED)
            less = of_drift(q, drift, own, abouts(), self.judge) if drift else None
            narrow = asked(scores | own, rules=JUDGING, drift=less)
            verdict = judged_by(narrow, verdict, self.judge)
        return Measured(plan, fit, seconds, evidence, scores, verdict, drift, drifted, predicted)

    def _response(self, plan: Plan, fit: Fit) -> Response:
        """The fit corrected by linear response, where there is something to compare it with."""
        if self.reference is None:
            return Response(reason=NO_REFERENCE)
        return response(plan.divergence, fit, self.settings.seed, plan.full)

    def _training_floor(self, plan: Plan, fit: Fit) -> float | None:
        """Nats lost to having trained on finitely many draws, for forward fits."""
        q, divergence = fit.approximation, plan.divergence
        if fit.training_floor is not None:  # a Hessian takes seconds
            return fit.training_floor
        if divergence is None or not isinstance(q, GuideApproximation):
            return None
        return divergence.training_floor(q)

    def _compare(self, found: Findings) -> Comparison:
        with timed("gathering results"):
            return self._gathered(found)

    def _gathered(self, found: Findings) -> Comparison:
        measured, predictor = found.measured, found.predictor
        by_name = {m.plan.name: m for m in measured}
        rows = [
            row
            for entry in self.published
            if entry.fit in by_name
            for row in compare(entry, by_name[entry.fit].fit, by_name[entry.fit].scores)
        ]
        target = facts.target(
            self.name, self.description, self.target, found.log_z, self.reference, found.modes,
            found.basins, self.judge, predictor.facts(),
        )  # fmt: skip
        groups = group_names([m.plan.name for m in measured])
        out: dict[str, Any] = {
            "schema": 1,
            "target": target,
            "fits": [
                facts.fit(m, self.settings.seed, group)
                for m, group in zip(measured, groups, strict=True)
            ],
            "published": rows,
            **({"ladder": self.climb.facts()} if self.climb else {}),
            "metrics": facts.metrics(abouts()),
            "rules": facts.rules(abouts()),
            "environment": environment(self.settings.seed, self._settings(), this_command()),
        }
        out["run"] = fingerprint(out)
        out["environment"]["created"] = datetime.now(UTC).isoformat(timespec="seconds")
        most = None if self.settings.keep_draws else MOST_BYTES
        curves = self._curves(measured)
        known = (curves, self.target.dims, most, predictor)
        tree = draws_tree(out["run"], self.reference, measured, groups, *known)
        live = {
            m.plan.name: fitted(
                m.plan, m.fit.approximation, self.target, self.settings, entry, tree[entry["group"]]
            )
            for m, entry in zip(measured, out["fits"], strict=True)
            if m.fit.approximation is not None
        }
        return Comparison(out, tree, live=live)

    def _settings(self) -> dict[str, Any]:
        return {
            "draws": self.settings.number_of_draws,
            "restarts": self.restarts,
            "reference": self.source,
            "effort": self.settings.effort,
        }

    def _curves(self, measured: list[Measured]):
        """Grid over u (g,), log p on it and log q of every fit, for a target on the line."""
        if self.target.dim != 1:
            return None
        sets = [m.evidence.q.u for m in measured if m.evidence]
        sets += [self.reference.test.u] if self.reference else []
        pooled = np.concatenate([np.asarray(u)[:, 0] for u in sets]) if sets else np.zeros(1)
        low, high = np.quantile(pooled, [0.0005, 0.9995])
        room = 0.12 * (high - low)
        grid = np.linspace(low - room, high + room, 601)  # as fine as a wide picture
        nowhere = self.target.complete(jnp.asarray(grid[:, None]))
        log_q = [
            _log_q(q, nowhere)
            if isinstance(q := m.fit.approximation, GuideApproximation)
            else np.full(len(grid), np.nan)
            for m in measured
        ]
        return grid, np.asarray(nowhere.log_p), np.stack(log_q)


def _solved(plan: Plan, problem: Problem, held_out: Draws | None) -> Fit:
    """What the plan's solver makes of the problem, asked what it has left to gain; a refusal, or a
    fault, ends this fit and no other. `held_out` are draws of the target that no solver sees."""
    try:
        found = plan.solver.solve(problem)
        if not isinstance(found, Fit):
            raise TypeError(f"the solver returned a {type(found).__name__}, and no Fit")
        return asked(problem, found, held_out)
    except InputError as error:
        why = str(error)
    except Exception as error:  # whatever a guide, a divergence or a solver raises
        why = f"it broke: {told(error)} ({last_line(error)})"
        warnings.warn(f"{plan.name}: {why}", stacklevel=2)
    return Fit(None, Status.FAILED, why, np.zeros((0, 0)), cost=Cost.nothing())


def _scores(
    evidence: Evidence, names: Collection[str] | None = None
) -> dict[str, dict[str, Estimate]]:
    """What all metrics say, or those that are named."""
    out = {}
    for name, entry in catalogue.entries("metrics").items():
        if names is None or name.replace("-", "_") in names:
            with timed(name):
                out[name.replace("-", "_")] = _measured(entry, evidence)
    return out


def _measured(entry: catalogue.Registered, evidence: Evidence) -> dict[str, Estimate]:
    """What a metric says; one that breaks has no numbers, and spoils no others."""
    try:
        found = dict(entry.load().measure(evidence))
        wrong = {label: e for label, e in found.items() if not isinstance(e, Estimate)}
        if wrong or ALL not in found:
            given = ", ".join(f"{k!r}: {type(e).__name__}" for k, e in (wrong or found).items())
            raise TypeError(f"measure must return {{{ALL!r}: Estimate, ...}}, not {{{given}}}")
    except InputError:
        raise
    except Exception as error:  # whatever somebody's metric raises
        why = entry.broke(error)
        warnings.warn(why, stacklevel=2)
        return {ALL: Estimate.missing(why)}
    return {label: e.or_missing() for label, e in found.items()}


def _log_q(q: GuideApproximation, draws: Draws) -> np.ndarray:
    return np.asarray(q.at(draws).log_q)


def _log_w(q: GuideApproximation, key: Array, part: OwnDraws, n: int) -> np.ndarray:
    return np.asarray(q.sample(jax.random.fold_in(key, part), n).log_w)


def _mixture_weights(
    modes: FoundModes, known: Mapping[str, tuple[GuideApproximation, Draws]]
) -> dict[str, np.ndarray]:
    """{fit: log p̃ − log(mixture of all fits)} at the draws that went to a mode."""
    out = {}
    for name, (_, draws) in known.items():
        some = draws[: len(modes.members[name])]
        each = np.stack([_log_q(q, some) for q, _ in known.values()])
        mixture = np.logaddexp.reduce(each, axis=0) - np.log(len(each))
        out[name] = np.asarray(some.log_p) - mixture
    return out
