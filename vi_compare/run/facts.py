"""Results as plain data: what ``results.json`` holds (schema 1)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from vi_compare import families
from vi_compare.comparison import DRAWS, number
from vi_compare.estimate import ALL, About, Estimate
from vi_compare.evidence import Evidence
from vi_compare.reference import PARTS, Reference
from vi_compare.reference.basins import BasinCheck
from vi_compare.reference.drift import Drift
from vi_compare.reference.log_z import LogZ
from vi_compare.reference.modes import FoundModes, NoModes
from vi_compare.run import predicting
from vi_compare.run.plans import Plan
from vi_compare.solvers import Cost, Fit
from vi_compare.target import Target
from vi_compare.verdict import RULES, Doubt, Drifts, Verdict

# Larger arrays stand in fits.nc and are named here.
LARGEST = 10_000


@dataclass(frozen=True)
class Measured:
    """One fit with all that was measured of it.

    Attributes:
        plan, fit: what was asked for, and what came.
        seconds: that the solver took, compiling included.
        evidence: None where the fit failed.
        scores: {metric: {label: Estimate}}.
        verdict: from the scores alone.
        drift: chains from the fit's own draws, where no finished reference was there; and
        drifted: what they say.
        predicted: of the data; None where nothing is observed.
    """

    plan: Plan
    fit: Fit
    seconds: float
    evidence: Evidence | None
    scores: dict[str, dict[str, Estimate]]
    verdict: Verdict
    drift: Drift | None = None
    drifted: Drifts | None = None
    predicted: predicting.Predicted | None = None


def target(
    name: str,
    description: str,
    target: Target,
    log_z: LogZ,
    reference: Reference | None,
    modes: FoundModes | NoModes,
    basins: BasinCheck,
    judge: Sequence[str],
    observed: dict[str, Any],
) -> dict[str, Any]:
    """Facts about the target, shared by all fits; `observed`: what is, and is predicted of it."""
    normaliser = None
    if log_z.estimate.value is not None:
        normaliser = {
            "value": log_z.estimate.value,
            "standard_error": log_z.estimate.standard_error,
            "method": log_z.method,
        }
    return {
        "name": name,
        "description": description,
        "dim": target.dim,
        "sites": {site.name: list(site.shape) for site in target.sites},
        "quantities": {one.name: list(one.shape) for one in target.quantities},
        "dims": {name: list(own) for name, own in target.dims.items()},
        "coords": {dim: list(names) for dim, names in target.naming.coords.items()},
        "judged": list(judge),
        "supports": {site.name: site.support for site in target.sites},
        "real": {site.name: site.is_real for site in target.sites},
        "normalised": target.normalised,
        "observed": observed,
        "log_normalizer": normaliser,
        "log_normalizer_reason": log_z.estimate.reason,
        "reference": _reference(reference, log_z.doubts, basins),
        "modes": _modes(modes, basins),
    }


def _reference(
    reference: Reference | None, of_log_z: tuple[Doubt, ...], basins: BasinCheck
) -> dict[str, Any]:
    if reference is None:
        return {"source": "none", "draws": 0}
    check, diagnosis = reference.check, reference.diagnosis
    return {
        "source": reference.source,
        "draws": len(reference.test),
        "parts": list(PARTS),
        "doubts": [
            {"kind": doubt.kind, "words": doubt.words}
            for doubt in (*of_log_z, *reference.doubts, *basins.doubts)
        ],
        "settings": reference.settings,
        "diagnosis": None
        if diagnosis is None
        else {
            "rhat": number(diagnosis.rhat),
            "ess": diagnosis.ess,
            "divergences": diagnosis.divergences,
            "chains": diagnosis.chains,
            "draws": diagnosis.draws,
            "limits": {
                "rhat": diagnosis.limits.rhat,
                "ess": diagnosis.limits.ess,
                "divergences": diagnosis.limits.divergences,
            },
        },
        "basins": {"khat": number(basins.khat), "reason": basins.reason},
        "stein": {
            "largest_z": number(check.z),
            "limit": check.limit,
            "tests": check.tests,
            "passed": check.passed,
        },
    }


def _modes(modes: FoundModes | NoModes, basins: BasinCheck) -> dict[str, Any]:
    if isinstance(modes, NoModes):
        return {"found": None, "reason": modes.reason}
    fits = [key for key in modes.shares if key not in ("test", "floor")]
    return {
        "found": [
            {
                "name": name,
                "place": modes.places[m],
                "location": modes.locations[m].tolist(),
                "target": float(modes.shares["test"][m]),
                "floor": float(modes.shares["floor"][m]),
                "n": modes.n,
                "effective": float(modes.effective[m]),
                "importance": None
                if basins.masses is None or basins.errors is None or np.isnan(basins.masses[m])
                else {
                    "value": float(basins.masses[m]),
                    "standard_error": float(basins.errors[m]),
                },
                "fits": {fit: float(modes.shares[fit][m]) for fit in fits},
            }
            for m, name in enumerate(modes.names)
        ],
        "reason": "",
    }


def fit(measured: Measured, seed: int, group: str) -> dict[str, Any]:
    """Everything about one fit; `group` is where its draws stand in fits.nc."""
    plan, found = measured.plan, measured.fit
    return {
        "name": plan.name,
        "guide": plan.guide_text,
        "divergence": plan.divergence_text,
        "solver": plan.solver_text,
        "label": plan.full,
        "group": f"fits/{group}",
        "seed": seed,
        "status": found.status,
        "message": found.message,
        "remedy": found.remedy,
        "doubt": found.doubt,
        "params": _params(found, group),
        "mixture": _mixture(found, group),
        "chosen": found.chosen,
        "restarts": [
            {
                "loss": number(r.loss),
                "standard_error": number(r.standard_error),
                "basin": r.basin,
                "status": r.status,
            }
            for r in found.restarts
        ],
        "basins": _basins(found),
        "metrics": {name: _metric(by) for name, by in measured.scores.items()},
        "drift": _drift(measured),
        "predictions": predicting.facts(measured.predicted),
        "verdict": in_words(measured.verdict),
        "cost": _cost(found.cost, measured.seconds),
        "settings": found.settings or {},
    }


def _drift(measured: Measured) -> dict[str, Any] | None:
    """What chains from a fit's own draws say, as plain data."""
    drift, drifted = measured.drift, measured.drifted
    if drift is None or drifted is None:
        return None
    return {
        "chains": drift.chains,
        "iterations": drift.iterations,
        "gradient_evaluations": drift.gradients,
        "moved": {name: _metric(by) for name, by in drifted.moved.items()},
        "least": {name: _metric(by) for name, by in drifted.least.items()},
    }


def in_words(verdict: Verdict) -> dict[str, Any]:
    """A verdict as plain data."""
    return {
        "word": verdict.word,
        "also": list(verdict.also),
        "reasons": list(verdict.reasons),
        "use_for": verdict.use_for,
        "next_step": verdict.next_step,
        "usable_after_reweighting": verdict.reweightable,
        "vague": verdict.vague,
        "mild": verdict.mild,
    }


def _cost(cost: Cost, seconds: float) -> dict[str, Any]:
    """Seconds as they were measured, evaluations as the solver counted them; None where it
    did not."""
    return {
        "compile_seconds": cost.compile_seconds,
        "run_seconds": max(0.0, seconds - (cost.compile_seconds or 0.0)),
        "log_density_evaluations": cost.log_density_evaluations,
        "gradient_evaluations": cost.gradient_evaluations,
    }


def _params(found, group: str) -> dict[str, Any] | None:
    if found.approximation is None:
        return None
    return {
        name: array(value, f"fits/{group}/params/{name}")
        for name, value in families.arrays(found.approximation.params).items()
    }


def _mixture(found, group: str) -> dict[str, Any] | None:
    if found.approximation is None:
        return None
    mixture = found.approximation.mixture()
    if mixture is None:
        return None
    return {
        name: array(value, f"fits/{group}/mixture/{name}")
        for name, value in mixture._asdict().items()
    }


def array(value: Any, path: str) -> Any:
    """Nested lists, or where to find them when there are too many numbers."""
    a = np.asarray(value)
    return {"file": DRAWS, "path": path, "shape": list(a.shape)} if a.size > LARGEST else a.tolist()


def _basins(found) -> list[dict[str, Any]]:
    """Which optima the restarts found and how often, the best first."""
    out = []
    numbers = sorted({r.basin for r in found.restarts if r.basin is not None})
    for b in numbers:
        members = [r for r in found.restarts if r.basin == b]
        best = min(members, key=lambda r: r.loss)
        out.append(
            {
                "basin": b,
                "loss": number(best.loss),
                "standard_error": number(best.standard_error),
                "restarts": len(members),
            }
        )
    return out


def _metric(by: Mapping[str, Estimate]) -> dict[str, Any]:
    head = by[ALL]
    out: dict[str, Any] = {
        "value": number(head.value),
        "standard_error": number(head.standard_error),
        "unit": head.unit,
        "n": head.n,
    }
    out |= _beside(head)
    rest = {label: e for label, e in by.items() if label != ALL}
    if rest:
        out["by"] = {
            label: {"value": number(e.value), "standard_error": number(e.standard_error)}
            | _beside(e)
            for label, e in rest.items()
        }
    return out


def _beside(e: Estimate) -> dict[str, Any]:
    """What only some numbers have."""
    floor = {} if e.floor is None else {"floor": number(e.floor)}
    bound = {"bound": e.bound} if e.bound else {}
    return floor | bound | ({"reason": e.reason} if e.value is None else {})


def metrics(abouts: Mapping[str, About]) -> dict[str, dict[str, Any]]:
    """What the numbers of every metric mean."""
    return {name: about.plain() for name, about in abouts.items()}


def rules(abouts: Mapping[str, About]) -> list[dict[str, str]]:
    """The verdict table, as it was used."""
    return [{"word": rule.word, "when": rule.condition(abouts[rule.metric])} for rule in RULES]
