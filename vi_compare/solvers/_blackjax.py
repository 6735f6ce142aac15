"""Pathfinder as BlackJAX has it (an extra), for the solvers that take Gaussians from it.

L-BFGS climbs log p, and what it has learnt of the curvature makes a Gaussian at every step; the
one of the highest ELBO is kept (Zhang et al. 2022, "Pathfinder: parallel quasi-Newton variational
inference", JMLR). That is a Gaussian met on the way, not an optimum of any divergence.

The Gaussian is the one that BlackJAX draws from, whatever it is. Version 1.7.1 puts its mean at
x − H ∇log p in place of the paper's x + H ∇log p (as in `bfgs_sample`), H the inverse curvature,
so that it is worst where the gradient is large. What is measured here is what its users get.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from vi_compare.approximation import GuideApproximation
from vi_compare.errors import InputError
from vi_compare.formatting import plain
from vi_compare.gaussian.gaussians import FullRank, lower
from vi_compare.randomness import split
from vi_compare.solvers import Cost, Fit, Problem, Restart
from vi_compare.solvers._minibatches import refuse_minibatches
from vi_compare.solvers._restarts import choose, side_by_side
from vi_compare.starts import starting_points
from vi_compare.target import Target
from vi_compare.verdict import Status


def require_blackjax(solver: str) -> None:
    """
    Raises:
        InputError: where BlackJAX is not installed; it says how to install it.
    """
    if find_spec("blackjax") is None:
        raise InputError(
            f"{solver} is BlackJAX's, which is not installed: pip install 'vi-compare[peers]'"
        )


@dataclass(frozen=True)
class Climb:
    """Where one path led.

    Attributes:
        gaussian: of the highest ELBO on it; None where no ELBO on it is finite.
        losses: −ELBO (steps,) of the Gaussians on it, in nats.
        ended: whether L-BFGS stopped by itself.
    """

    gaussian: FullRank | None
    losses: np.ndarray
    ended: bool


@dataclass(frozen=True)
class Pathfinding:
    """BlackJAX's Pathfinder.

    Attributes:
        name: the solver's, in messages.
        iterations: maximum number of L-BFGS iterations; BlackJAX's own default, 30, ends on the
            way on a curved target as small as models/banana.py.
        memory: pairs that L-BFGS remembers.
        draws: by which the ELBO of every Gaussian on a path is estimated.
    """

    name: str
    iterations: int
    memory: int
    draws: int

    def __post_init__(self):
        require_blackjax(self.name)
        for what in ("iterations", "memory", "draws"):
            if (value := getattr(self, what)) < 1:
                raise InputError(f"{self.name}: {what} must be positive, got {value}")

    def search(
        self, problem: Problem, each: int, params: Callable[[Sequence[FullRank]], dict]
    ) -> Fit:
        """The best of `restarts` approximations, each made of the Gaussians of `each` paths.

        Args:
            params: the guide's parameters for these Gaussians.

        Raises:
            InputError: for minibatches.
        """
        refuse_minibatches(self.name, problem.target)
        start_key, path_key, choose_key = split(problem.key, 3)
        number = problem.restarts * each
        starts = np.asarray(starting_points(problem.target, start_key, number), float)
        paths = []
        for k, start in enumerate(starts):
            paths.append(self._follow(problem.target, jax.random.fold_in(path_key, k), start))
            lowest = paths[-1].losses.min(initial=np.inf)
            problem.progress(k + 1, number, f"ELBO {-lowest:.4g}")
        groups = [paths[k : k + each] for k in range(0, number, each)]
        return self._fit(problem, groups, params, choose_key)

    def _follow(self, target: Target, key: Array, start: np.ndarray) -> Climb:
        """The path from one start (d,)."""
        found = _path(target, self.iterations, self.memory, self.draws, key, jnp.asarray(start))
        mean, factor, elbo, ended = (np.asarray(a) for a in found)
        finite = np.isfinite(elbo)
        usable = finite.any() and np.isfinite(mean).all() and np.isfinite(factor).all()
        gaussian = FullRank(mean.astype(float), lower(factor.astype(float))) if usable else None
        return Climb(gaussian, -elbo[finite], bool(ended))

    def _fit(
        self,
        problem: Problem,
        groups: list[list[Climb]],
        params: Callable[[Sequence[FullRank]], dict],
        key: Array,
    ) -> Fit:
        losses = side_by_side([np.concatenate([path.losses for path in g]) for g in groups])
        met = [[path.gaussian for path in g if path.gaussian is not None] for g in groups]
        alive = np.array([len(g) == len(m) for g, m in zip(groups, met, strict=True)])
        if not alive.any():
            message = "no path has a Gaussian with a finite ELBO on it"
            lost = tuple(Restart(None, None, None, message) for _ in groups)
            return Fit(None, Status.FAILED, message, losses, lost)
        # A lost restart borrows parameters, so that all have one shape; it is never chosen.
        spare = int(np.argmax(alive))
        made = [params(met[r if fine else spare]) for r, fine in enumerate(alive)]
        guide, target = problem.guide, problem.target
        stacked = GuideApproximation(guide, jax.tree.map(lambda *a: jnp.stack(a), *made), target)
        best, rows, _ = choose(problem.divergence, stacked, alive, key)
        if best is None:
            message = "the divergence is not finite for any Gaussian that was kept"
            return Fit(None, Status.FAILED, message, losses, tuple(rows))
        moving = sum(not path.ended for path in groups[best])
        return Fit(
            GuideApproximation(guide, made[best], target),
            Status.NOT_CONVERGED if moving else Status.CONVERGED,
            self._words(rows, best, len(groups[best]), moving),
            losses,
            tuple(rows),
            best,
            # BlackJAX does not count what its line searches take.
            Cost(),
            settings={"paths": len(groups) * len(groups[0]), "optimises_divergence": False},
            remedy=f"raise {self.name}:iterations={4 * self.iterations}" if moving else "",
        )

    def _words(self, rows: Sequence[Restart], best: int, each: int, moving: int) -> str:
        what = f"the Gaussians of {each} paths" if each > 1 else "a Gaussian met on a path"
        loss = rows[best].loss
        assert loss is not None  # as of every restart that can be chosen
        words = (
            f"{what} to a mode, the best of {len(rows)} by ELBO, {plain(-loss)} nats; "
            f"this is not an optimum of the divergence"
        )
        if not moving:
            return words
        return f"{words}; L-BFGS was still moving after {self.iterations} iterations"


@partial(jax.jit, static_argnums=(0, 1, 2, 3))
def _path(
    target: Target, iterations: int, memory: int, draws: int, key: Array, start: Array
) -> tuple[Array, Array, Array, Array]:
    """From a start (d,): mean (d,) and a factor (d, d) of the covariance of the best Gaussian, the
    ELBO (iterations + 1,) along the path, −inf beyond its end, and whether it ended."""
    from blackjax.optimizers.lbfgs import bfgs_sample
    from blackjax.vi import pathfinder

    state, info = pathfinder.approximate(
        key, target.log_density, start, draws, maxiter=iterations, maxcor=memory
    )
    # One draw with the gradient and one without, of the same noise, differ by the shift of the
    # mean: so it is theirs whatever its sign.
    one = partial(bfgs_sample, key, 1, state.position)
    shape = (state.alpha, state.beta, state.gamma)
    shift = one(state.grad_position, *shape)[0] - one(jnp.zeros_like(start), *shape)[0]
    scale = jnp.sqrt(state.alpha)
    q, r = jnp.linalg.qr(state.beta / scale[:, None])
    tril = jnp.linalg.cholesky(jnp.eye(len(r)) + r @ state.gamma @ r.T)
    factor = scale[:, None] * (jnp.eye(len(start)) + q @ (tril - jnp.eye(len(r))) @ q.T)
    # Once it has ended, BlackJAX repeats its last point.
    ended = (info.path.position[-1] == info.path.position[-2]).all()
    return state.position + shift[0], factor, info.path.elbo, ended
