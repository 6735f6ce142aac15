"""Batch and Match: a full-rank Gaussian by its scores, in closed-form steps.

Draws of q and the scores of p there; the next q is the Gaussian whose scores fit best in
the metric of its own covariance, held back by KL to the one before (Cai et al. 2024, "Batch
and match: black-box variational inference with a score-based divergence", ICML). Every
step is invariant under affine maps of u; there is no step size to set.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from scipy import linalg

from vi_compare import families
from vi_compare.approximation import GuideApproximation
from vi_compare.divergences.fisher import Fisher
from vi_compare.errors import InputError
from vi_compare.formatting import plain
from vi_compare.gaussian.antithetic import pairs
from vi_compare.gaussian.frames import Frame, Survey, from_paths
from vi_compare.gaussian.gaussians import MOST_FULL, FullRank, enough_draws, jeffreys, lower
from vi_compare.gaussian.natural_gradient import LOST
from vi_compare.randomness import generator, split
from vi_compare.scores import Scores
from vi_compare.solvers import Cost, Expected, Fit, Problem, Restart
from vi_compare.solvers._restarts import choose, side_by_side
from vi_compare.verdict import Status


@dataclass(frozen=True)
class MatchTuning:
    """Tunables of Batch and Match.

    Attributes:
        starts: maximum number of Gaussians that are followed.
        least_draws: minimum size of a batch.
        rush: number of first steps, which match their batch almost outright until q is near;
            later steps average over batches.
        still: q is at rest when the symmetrised KL in nats between now and half as many steps
            ago is less.
    """

    starts: int = 4
    least_draws: int = 256
    rush: int = 15
    still: float = 0.005


def suits(guide: Callable, divergence) -> int | None:
    """One Gaussian of full rank under the weighted Fisher divergence."""
    weighted = isinstance(divergence, Fisher) and divergence.weighted
    full = families.family(guide).covariances == families.Covariances.FULL
    return 3 if weighted and full else None


def build(steps: int = 600) -> BatchAndMatch:
    """Batch and Match: closed-form steps on scores, for mvn under fisher:weighted."""
    least = 2 * MatchTuning().rush
    if steps < least:
        raise InputError(f"batch-and-match: steps must be at least {least}, got {steps}")
    return BatchAndMatch(steps)


@dataclass
class _Matching:
    """The way from one start.

    Attributes:
        gaussian: q as it is now.
        path: q after every step.
        losses: the weighted Fisher divergence at every step, on its own draws.
        moved: symmetrised KL in nats between now and half as many steps ago.
        trouble: "" or why it broke off.
    """

    gaussian: FullRank
    path: list[FullRank] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    moved: float = np.inf
    trouble: str = ""


@dataclass(frozen=True)
class BatchAndMatch:
    """See the module; `steps` is a limit."""

    steps: int
    tuning: MatchTuning = MatchTuning()

    def expected(self, problem: Problem) -> Expected:
        """Its survey, and batches of some draws for each dimension."""
        draws = enough_draws(8 * problem.target.dim, self.tuning.least_draws)
        starts = min(self.tuning.starts, problem.restarts)
        return Expected(20_000 + 100 * starts * draws, seconds=2)

    def solve(self, problem: Problem) -> Fit:
        """Fit the guide from the best Gaussians on quasi-Newton ascents.

        Raises:
            InputError: above 300 dimensions.
        """
        target, progress = problem.target, problem.progress
        if target.dim > MOST_FULL:
            raise InputError(
                f"batch-and-match: {target.dim} dimensions are too many for a full covariance "
                f"({MOST_FULL} at most); fit normal or lowrank:5"
            )
        survey_key, draw_key, choose_key = split(problem.key, 3)
        survey = from_paths(target, survey_key)
        scores, rng = Scores(target), generator(draw_key)
        most = min(self.tuning.starts, problem.restarts)
        frames = survey.frames[:most] or (Frame.identity(target.dim),)
        runs = [_Matching(FullRank(frame.mean, frame.tril)) for frame in frames]
        for number, run in enumerate(runs):
            tell = lambda k, loss, number=number: progress(
                number * self.steps + k, len(runs) * self.steps, f"loss {loss:.4g}"
            )
            self._follow(run, scores, rng, tell)
        return _fit(problem, runs, choose_key, (survey, scores), self.tuning.still)

    def _follow(
        self, run: _Matching, scores: Scores, rng, tell: Callable[[int, float], None]
    ) -> None:
        """Step from batch to batch until q is at rest, or draws without a finite log p."""
        rush = self.tuning.rush
        draws = enough_draws(8 * scores.dim, self.tuning.least_draws)
        for k in range(self.steps):
            x = run.gaussian.points(pairs(rng, draws, scores.dim))
            log_p, gradients = scores(x)
            good = np.isfinite(log_p)
            if good.mean() < 1 - LOST:
                run.trouble = f"log p is not finite at {(~good).mean():.0%} of the draws"
                return
            run.losses.append(_apart(run.gaussian, x[good], gradients[good]))
            # 1/λ is the number of batches that the average is as good as.
            pull = draws * scores.dim if k < rush else 2 / (k - rush + 2)
            run.gaussian = matched(run.gaussian, x[good], gradients[good], pull)
            run.path.append(run.gaussian)
            tell(k + 1, run.losses[-1])
            if k + 1 >= 2 * rush:
                run.moved = jeffreys(run.gaussian, run.path[(k + rush) // 2])
                if run.moved < self.tuning.still and k + 1 >= 4 * rush:
                    return


def matched(q: FullRank, x: np.ndarray, g: np.ndarray, pull: float) -> FullRank:
    """The step of weight λ = `pull` from draws x (n, d) of q and scores g (n, d) there.

    Σ' solves Σ'UΣ' + Σ' = V with U = λΓ + λ/(1+λ) ḡḡᵀ and
    V = Σ + λC + λ/(1+λ) (μ − x̄)(μ − x̄)ᵀ (Cai et al. 2024, equation 8), in the frame of V.
    """
    far = pull / (1 + pull)
    x_bar, g_bar = x.mean(axis=0), g.mean(axis=0)
    c, gamma = (np.atleast_2d(np.cov(a.T, bias=True)) for a in (x, g))
    u = pull * gamma + far * np.outer(g_bar, g_bar)
    v = q.factor @ q.factor.T + pull * c + far * np.outer(q.mean - x_bar, q.mean - x_bar)
    root = linalg.cholesky(v, lower=True)
    w, turn = linalg.eigh(root.T @ u @ root)
    factor = root @ turn * np.sqrt(2 / (1 + np.sqrt(1 + 4 * np.maximum(w, 0))))
    mean = q.mean / (1 + pull) + far * (factor @ (factor.T @ g_bar) + x_bar)
    return FullRank(mean, lower(factor))


def _apart(q: FullRank, x: np.ndarray, g: np.ndarray) -> float:
    """The weighted Fisher divergence at draws x (n, d) with the scores g (n, d) of p."""
    own = -linalg.solve_triangular(q.factor, q.unrooted(x - q.mean).T, lower=True, trans="T").T
    return float((((own - g) @ q.factor) ** 2).sum(axis=1).mean())


def _fit(
    problem: Problem,
    runs: list[_Matching],
    key: Array,
    spent: tuple[Survey, Scores],
    at_rest: float,
) -> Fit:
    """The best of the runs as a fit; one that moved by less than `at_rest` nats converged."""
    target, guide = problem.target, problem.guide
    family = families.family(guide)
    losses = side_by_side([run.losses for run in runs])
    made = [family.from_gaussian(q.mean, q.factor, target) for q in (run.gaussian for run in runs)]
    stacked = GuideApproximation(guide, jax.tree.map(lambda *a: jnp.stack(a), *made), target)
    alive = np.array([not run.trouble for run in runs])
    if alive.any():
        best, rows, judged = choose(problem.divergence, stacked, alive, key)
    else:
        best, rows, judged = None, [Restart(None, None, None, run.trouble) for run in runs], 0
    cost = _cost(*spent, judged)
    if best is None:
        message = f"every start broke down; the first: {runs[0].trouble or rows[0].status}"
        return Fit(None, Status.FAILED, message, losses, tuple(rows), cost=cost)
    run = runs[best]
    still = run.moved < at_rest
    moved = f"it moved by {plain(run.moved)} nats in the last half of {len(run.path)} steps"
    return Fit(
        GuideApproximation(guide, made[best], target),
        Status.CONVERGED if still else Status.NOT_CONVERGED,
        moved,
        losses,
        tuple(rows),
        best,
        cost,
        settings={"starts": len(runs), "steps": len(run.path)},
        remedy=f"raise batch-and-match:steps={4 * len(run.path)}",
    )


def _cost(survey: Survey, scores: Scores, judged: int) -> Cost:
    first = Cost(survey.compile_seconds, survey.densities, survey.gradients)
    return first + Cost(
        scores.compile_seconds, scores.densities + judged, scores.gradients + judged
    )
