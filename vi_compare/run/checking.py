"""What ``vi-compare check`` tells about a study before anything is fitted."""

from __future__ import annotations

import time
from dataclasses import dataclass

import jax
import jax.numpy as jnp

from vi_compare import families
from vi_compare.randomness import key_for
from vi_compare.run.identity import told
from vi_compare.run.prepared import Prepared
from vi_compare.starts import starting_points
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
        chains: whether the reference will be NUTS, which `run` begins with.
        doubts: why the reference should not be believed.
        gradient_seconds: of one gradient of log p, in a batch of `starts`.
        fits: (name, solver, predicted seconds or None where nothing is iterated on p).
    """

    name: str
    sites: tuple[tuple[str, tuple[int, ...], str], ...]
    dim: int
    normalised: bool
    subsampled: tuple[str, ...]
    told: tuple[str, ...]
    starts: int
    stein: tuple[float, float] | None
    chains: bool
    doubts: tuple[Doubt, ...]
    gradient_seconds: float
    fits: tuple[tuple[str, str, float | None], ...]


def inspect(prepared: Prepared, n: int = 1024) -> Inspection:
    """Everything that `check` shows; `prepared` has passed every rule about input.

    Args:
        n: number of starting points, and of gradients that are timed together.
    """
    target, settings, reference = prepared.target, prepared.settings, prepared.reference
    points = starting_points(target, key_for(settings.seed, "check"), n)
    seconds = _seconds_of_gradient(target, points)
    return Inspection(
        prepared.name,
        tuple((s.name, s.shape, s.support) for s in target.sites),
        target.dim,
        target.normalised,
        target.subsampled,
        told(target),
        len(points),
        (reference.check.z, reference.check.limit) if reference else None,
        reference is None and settings.source != "none",
        reference.doubts if reference else (),
        seconds,
        tuple(
            (p.name, p.solver_text, _predict(p, prepared.restarts, seconds)) for p in prepared.plans
        ),
    )


def _seconds_of_gradient(target, points: jax.Array) -> float:
    gradient = jax.jit(jax.vmap(jax.grad(target.log_density)))
    jax.block_until_ready(gradient(points))
    times = []
    for _ in range(5):
        begin = time.perf_counter()
        jax.block_until_ready(gradient(points))
        times.append(time.perf_counter() - begin)
    return float(jnp.median(jnp.asarray(times))) / len(points)


def _predict(
    plan,
    restarts: int,
    gradient_seconds: float,
    steps: int = 3_000,
    compile_seconds: float = 8.0,
) -> float | None:
    """Rough seconds of a stochastic fit; None where the target is not evaluated.

    `steps` of each restart are about what it takes to converge.
    """
    if plan.divergence is None:
        return None
    strata = families.family(plan.guide).num_components
    points = plan.divergence.evaluations(strata).log_density
    if not points:
        return None
    return compile_seconds + 2 * steps * restarts * points * gradient_seconds
