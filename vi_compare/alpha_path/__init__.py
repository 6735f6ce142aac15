"""Following one guide's optimum over α for a study: what ``vi-compare path`` does."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jax import Array

from vi_compare import families, formatting
from vi_compare.alpha_path.branches import AlphaPath, Rules, follow
from vi_compare.alpha_path.facts import results
from vi_compare.comparison import Comparison
from vi_compare.errors import InputError
from vi_compare.randomness import key_for
from vi_compare.reference import Reference
from vi_compare.run.environment import this_command
from vi_compare.run.labels import Guides, Part
from vi_compare.run.plans import Planner
from vi_compare.run.prepared import Prepared
from vi_compare.run.progress import Observer
from vi_compare.timing import timed


@dataclass(frozen=True)
class Span:
    """α from `low` to `high`.

    Attributes:
        low, high: the ends.
        step: between two α; None for the default number of points.
    """

    low: float
    high: float
    step: float | None = None

    @classmethod
    def parse(cls, text: str, most: int = 500) -> Span:
        """ "LOW:HIGH" or "LOW:HIGH:STEP", of at most `most` steps.

        Raises:
            InputError: when it is something else.
        """
        parts = text.split(":")
        try:
            values = [float(part) for part in parts]
        except ValueError:
            values = []
        if len(values) not in (2, 3) or not all(map(math.isfinite, values)):
            raise InputError(f"alpha must be LOW:HIGH or LOW:HIGH:STEP, as in -0.5:2, not {text!r}")
        low, high = values[:2]
        if low >= high:
            raise InputError(f"alpha must go up, and {text!r} does not; write -0.5:2")
        if len(values) == 3 and not (high - low) / most <= values[2] <= high - low:
            raise InputError(
                f"the step of alpha must lie between {(high - low) / most:g} and "
                f"{high - low:g}, got {parts[2]}"
            )
        return cls(*values)

    def alphas(self, dim: int) -> np.ndarray:
        """(A,) ascending, for a target of `dim` dimensions."""
        if self.step is None:
            points = 51 if dim == 1 else 21  # quadrature is cheap, draws are not
            return _rounded(np.linspace(self.low, self.high, points))
        count = math.floor((self.high - self.low) / self.step + 1e-9) + 1
        return _rounded(self.low + self.step * np.arange(count))


@dataclass(frozen=True)
class Tracer:
    """A path that can be followed: everything has been checked.

    Attributes:
        prepared: the study, with draws of the target.
        part, guide: the guide whose optimum is followed, as a label and set up.
        alphas: (A,) ascending.
    """

    prepared: Prepared
    reference: Reference
    part: Part
    guide: Callable
    alphas: np.ndarray

    @classmethod
    def of(cls, prepared: Prepared, part: Part, own: Guides, span: Span) -> Tracer:
        """
        Raises:
            InputError: when there are no draws of the target, or the guide cannot be used.
        """
        if prepared.reference is None:
            raise InputError("a path needs draws of the target; give --reference nuts or a file")
        target = prepared.target
        guide = Planner(target, prepared.settings.seed, own).guide(part)
        if families.family(guide).grows:
            raise InputError(
                f"a path is of one family, and {part.text} is as large as a fit makes it; "
                f"give a number of components, e.g. mixture:2"
            )
        return cls(prepared, prepared.reference, part, guide, span.alphas(target.dim))

    def trace(self, comparison: Comparison, observer: Observer) -> dict[str, Any]:
        """The content of ``path.json``, beside the run `comparison` of the same target.

        Raises:
            InputError: when the run is of another target, or its normaliser is not known.
        """
        _same_sites(self.prepared, comparison)
        observer.begin("log Z", quiet=True)
        rules = self._rules(_log_z(self.prepared, comparison))
        observer.end("")
        began = time.perf_counter()
        observer.begin(f"following {self.part.text}")
        with timed("following the path"):
            found = follow(
                self.prepared.target,
                self.guide,
                self.reference.train,
                rules,
                self.alphas,
                self._key("starts"),
                self.prepared.restarts,
                observer.progress,
            )
        observer.end(_words(found))
        observer.begin("measuring the path")
        with timed("measuring the path"):
            draws, key = self.reference.test, self._key("measuring")
            out = results(found, self.prepared.target, draws, key, observer.progress)
        observer.end("")
        return {
            "schema": 1,
            "run": comparison.results["run"],
            "guide": self.part.text,
            "command": this_command(),
            "restarts": self.prepared.restarts,
            "seconds": time.perf_counter() - began,
            "evaluations": found.problem.evaluations,
            **out,
        }

    def _rules(self, log_z: float) -> Rules:
        target, reference = self.prepared.target, self.reference
        if target.dim == 1:
            return Rules.on_the_line(target, reference.train)
        parts = families.family(self.guide).num_components
        key = self._key("noise")
        return Rules.drawn(target, reference.train, reference.test, log_z, key, parts)

    def _key(self, what: str) -> Array:
        return key_for(self.prepared.settings.seed, f"path/{self.part.full}/{what}")


def _rounded(alphas: np.ndarray) -> np.ndarray:
    """To ten digits, so that steps that land on 0 and 1 hit them exactly."""
    return np.round(alphas, 10) + 0.0  # which turns −0 into 0


def _words(found: AlphaPath) -> str:
    at = ", ".join(f"{one.alpha:.3g}" for one in found.transitions)
    several = "optima" if len(found.branches) != 1 else "optimum"
    jumps = f"a jump at α = {at}" if at else "no jump"
    return f"{formatting.words(len(found.branches))} {several} followed, {jumps}"


def _same_sites(prepared: Prepared, comparison: Comparison) -> None:
    """Refuse a run of another model."""
    then = comparison.results["target"]
    now = {site.name: list(site.shape) for site in prepared.target.sites}
    if then["sites"] != now:
        raise _of_another()


def _log_z(prepared: Prepared, comparison: Comparison, limit: float = 5.0) -> float:
    """The target's log normaliser as the run has it, which must be ours within `limit`
    standard errors: more are between two targets."""
    estimate = replace(prepared, plans=()).log_z(()).estimate
    if estimate.value is None:
        raise InputError(f"a path needs the target's normaliser: {estimate.reason}")
    then = comparison.results["target"]["log_normalizer"]
    if then is None:
        return estimate.value
    error = math.hypot(estimate.standard_error or 0.0, then["standard_error"] or 0.0)
    if abs(estimate.value - then["value"]) > limit * error + 1e-6:
        raise _of_another()
    return float(then["value"])


def _of_another() -> InputError:
    return InputError(
        "the run in this folder is of another model or of other data; "
        "give another --out, or run it again first"
    )
