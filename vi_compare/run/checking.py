"""What ``vi-compare check`` tells about a study before anything is fitted."""

from __future__ import annotations

import time
from dataclasses import dataclass

import jax
import numpy as np

from vi_compare.randomness import key_for
from vi_compare.reference.nuts_chains import USUAL
from vi_compare.reference.short_chains import within
from vi_compare.run.identity import told
from vi_compare.run.plans import Plan
from vi_compare.run.prepared import Prepared
from vi_compare.scores import ROWS
from vi_compare.settings import EFFORTS, Effort
from vi_compare.solvers import Foresees, Problem
from vi_compare.starts import starting_points
from vi_compare.target import Target
from vi_compare.verdict import Doubt


@dataclass(frozen=True)
class Inspection:
    """Facts found without fitting.

    Attributes:
        name, sites, dim, normalised, subsampled: of the target; sites as (name, shape,
            support).
        told: what is good to know about the sites, a clause each.
        starts: number of usable starting points.
        stein: largest z-score of the reference's check and its limit, or None.
        chains: what draws the reference, where `run` begins with that, and predicted seconds; else
            None.
        doubts: why the reference should not be believed.
        gradient_seconds: of one gradient of log p, in a batch of `ROWS`.
        fits: (name, solver, predicted seconds or None where the solver does not foresee them).
    """

    name: str
    sites: tuple[tuple[str, tuple[int, ...], str], ...]
    dim: int
    normalised: bool
    subsampled: tuple[str, ...]
    told: tuple[str, ...]
    starts: int
    stein: tuple[float, float] | None
    chains: tuple[str, float] | None
    doubts: tuple[Doubt, ...]
    gradient_seconds: float
    fits: tuple[tuple[str, str, float | None], ...]


def inspect(prepared: Prepared, n: int = 1024) -> Inspection:
    """Everything that `check` shows; `prepared` has passed every rule about input.

    Args:
        n: number of starting points.
    """
    target, settings, reference = prepared.target, prepared.settings, prepared.reference
    points = starting_points(target, key_for(settings.seed, "check"), n)
    price = _Price.of(target, points[:ROWS])
    return Inspection(
        prepared.name,
        tuple((s.name, s.shape, s.support) for s in target.sites),
        target.dim,
        target.normalised,
        target.subsampled,
        told(target),
        len(points),
        (reference.check.z, reference.check.limit) if reference else None,
        price.of_reference(prepared) if reference is None else None,
        reference.doubts if reference else (),
        price.gradient,
        tuple((p.name, p.solver_text, price.of_fit(prepared, p)) for p in prepared.plans),
    )


@dataclass(frozen=True)
class _Price:
    """Measured seconds, from which those of fits are predicted.

    Attributes:
        gradient: of one gradient of log p, `ROWS` side by side.
        compiling: of compiling that.
        program: of compiling a solver's program, about.
        slower_in_nuts: times as long a gradient takes there: few chains side by side, which wait
            for the longest trajectory.
        programs_of_nuts: that are compiled: two of the warm-up and one of the draws.
        slower_in_chains: the same of short chains, many side by side.
        programs_of_chains: of the chains, and of the ascents that they begin with.
    """

    gradient: float
    compiling: float
    program: float = 5.0
    slower_in_nuts: float = 5.0
    programs_of_nuts: int = 3
    slower_in_chains: float = 2.0
    programs_of_chains: int = 2

    @classmethod
    def of(cls, target: Target, points: jax.Array, times: int = 5) -> _Price:
        """Of a target, at points (n, d)."""
        gradient = jax.jit(target.over_points(jax.grad(target.log_density)))
        seconds = []
        for _ in range(1 + times):
            begin = time.perf_counter()
            jax.block_until_ready(gradient(points))
            seconds.append(time.perf_counter() - begin)
        return cls(float(np.median(seconds[1:])) / len(points), seconds[0])

    def of_fit(self, prepared: Prepared, plan: Plan) -> float | None:
        """Of a fit, from what its solver expects; None where that cannot tell."""
        if not isinstance(plan.solver, Foresees):
            return None
        key = key_for(prepared.settings.seed, plan.full)
        restarts = prepared.restarts
        problem = Problem(prepared.target, plan.guide, plan.divergence, key, restarts)
        expected = plan.solver.expected(problem)
        asks = self.compiling + expected.gradients * self.gradient if expected.gradients else 0.0
        return expected.seconds + self.program * expected.programs + asks

    def of_reference(self, prepared: Prepared) -> tuple[str, float] | None:
        """What draws the reference and what that takes; None where nothing has to."""
        target, settings = prepared.target, prepared.settings
        priced = {
            "chains": lambda: ("short chains", self.of_chains(target, EFFORTS[settings.effort])),
            "nuts": lambda: ("NUTS", self.of_nuts(target)),
        }
        return priced[prepared.source]() if prepared.source in priced else None

    def of_chains(self, target: Target, effort: Effort) -> float:
        """Of half the gradients that they may take at most, which is usual."""
        gradients = within(effort, target).most / 2
        asks = self.compiling + self.slower_in_chains * gradients * self.gradient
        return self.programs_of_chains * self.program + asks

    def of_nuts(self, target: Target) -> float:
        """Of as many gradients as NUTS usually takes."""
        gradients = USUAL.within(target).enough
        asks = self.compiling + self.slower_in_nuts * gradients * self.gradient
        return self.programs_of_nuts * self.program + asks
