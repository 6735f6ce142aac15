"""Moment fitting for forward KL: EM on draws of the target, each M-step a moment match."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from vi_compare import families
from vi_compare.approximation import GuideApproximation, set_up
from vi_compare.asymptotics import sandwich
from vi_compare.divergences.forward_kl import ForwardKL
from vi_compare.errors import InputError
from vi_compare.moments import em, kmeans_start
from vi_compare.numbers import minus
from vi_compare.solvers import Cost, Fit, Progress, Restart, basins, quiet
from vi_compare.target import Target


def suits(guide: Callable, divergence) -> int | None:
    """Guides that are Gaussian mixtures, under forward KL."""
    return 2 if families.has_projection(guide) and isinstance(divergence, ForwardKL) else None


def build(iterations: int = 2000, tolerance: float = 1e-10, floor: float = 1e-6) -> MomentFit:
    """EM on draws of the target: forward KL to its optimum, each M-step a moment match."""
    if iterations < 1:
        raise InputError(f"moments: iterations must be positive, got {iterations}")
    if tolerance < 0 or floor < 0:
        raise InputError("moments: tolerance and floor must not be negative")
    return MomentFit(iterations, tolerance, floor)


@dataclass(frozen=True)
class MomentFit:
    """Maximum likelihood of the divergence's draws over Gaussian mixtures.

    Attributes:
        iterations: at most so many EM iterations per restart.
        tolerance: stop when an iteration gains less, in nats of mean log likelihood.
        floor: added to every covariance, as a share of the draws' own.
    """

    iterations: int
    tolerance: float
    floor: float

    def solve(
        self,
        target: Target,
        guide: Callable,
        divergence: ForwardKL,
        key: Array,
        restarts: int,
        progress: Progress = quiet,
    ) -> Fit:
        """Fit `guide`; the best of `restarts` has the highest likelihood of all draws.

        No fresh draws are needed to choose: all restarts have the same number of
        parameters and the same draws.
        """
        start_key, setup_key, basin_key = jax.random.split(key, 3)
        set_up(guide, target, setup_key)
        u, components = divergence.draws.u, families.num_components(guide)
        keys = jax.random.split(start_key, restarts)

        begin = time.perf_counter()
        run = jax.jit(jax.vmap(partial(self._run, components), (None, 0))).lower(u, keys).compile()
        compiled = time.perf_counter()
        result = jax.block_until_ready(run(u, keys))
        ran = time.perf_counter()
        progress(1, 1, f"{int(result.iterations.max())} EM iterations")

        pack = lambda mixture: families.from_mixture(guide, mixture, target)
        stacked = GuideApproximation(guide, jax.jit(jax.vmap(pack))(result.mixture), target)
        offset = divergence.draws.log_p
        last = np.nanmax(np.asarray(result.log_likelihood), axis=1)
        loss = (0.0 if offset is None else float(offset.mean())) - last
        basin = basins(stacked, basin_key, loss)
        error = None if offset is None else _error(stacked, u, offset)
        rows = [
            Restart(
                float(loss[r]), None if error is None else float(error[r]), basin[r], "finished"
            )
            if np.isfinite(loss[r])
            else Restart(None, None, None, "its likelihood is not finite")
            for r in range(restarts)
        ]
        settings = {
            "iterations": int(result.iterations.max()),
            "revived": int(result.revived.sum()),
        }
        losses = -np.asarray(result.log_likelihood)[:, : settings["iterations"]]
        losses = losses + (0.0 if offset is None else float(offset.mean()))
        cost = Cost(compiled - begin, ran - compiled)
        if not np.isfinite(loss).any():
            message = "no restart has a finite likelihood; are the draws finite?"
            return Fit(None, "failed", message, losses, tuple(rows), cost=cost, settings=settings)
        best = int(np.nanargmin(loss))
        q = jax.tree.map(lambda leaf: leaf[best], stacked)
        status, message = self._status(result, best)
        errors = sandwich(q, u)
        covariance = None if errors is None else errors[0]
        return Fit(q, status, message, losses, tuple(rows), best, cost, covariance, settings)

    def _run(self, components: int, u: Array, key: Array):
        start = kmeans_start(u, key, components)
        return em(u, start, iterations=self.iterations, tolerance=self.tolerance, floor=self.floor)

    def _status(self, result, best: int) -> tuple[str, str]:
        used, gain = int(result.iterations[best]), float(result.gain[best])
        words = minus(f"the last of {used} EM iterations gained {gain:.0e} nats")
        if gain <= self.tolerance:
            return "converged", words
        return "not converged", f"{words}; raise moments:iterations={self.iterations * 5}"


@jax.jit
def _error(stacked: GuideApproximation, u: Array, log_p: Array) -> Array:
    """Standard error (R,) of each restart's mean loss."""
    log_q = jax.vmap(lambda q: jax.vmap(q.log_prob)(u))(stacked)
    return jnp.std(log_p - log_q, axis=1, ddof=1) / jnp.sqrt(len(u))
