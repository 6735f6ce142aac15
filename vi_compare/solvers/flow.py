"""Flows from the best Gaussian on: training begins at it exactly, and ends no worse.

1. Gaussian: the best one, by the default solver of ``mvn`` for the divergence.
2. Training in its frame: Adam on large batches, gradients clipped (Pascanu, Mikolov and Bengio
   2013), first at one step size until fresh draws show no more gain, then at one that falls to 0
   by a cosine (Loshchilov and Hutter 2017). Reverse KL sticks the landing (Roeder et al. 2017);
   forward KL holds some of its draws out and keeps the parameters that these like best, as a
   flow can learn a few draws by heart.
3. Judged against the Gaussian, draw by draw: it is the Gaussian again unless it has surely gained.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array
from numpyro.infer.autoguide import AutoMultivariateNormal

from vi_compare import catalogue, families
from vi_compare.approximation import GuideApproximation
from vi_compare.divergences import Divergence
from vi_compare.divergences.forward_kl import ForwardKL
from vi_compare.divergences.reverse_kl import ReverseKL
from vi_compare.errors import InputError
from vi_compare.evidence import Draws
from vi_compare.formatting import with_error
from vi_compare.gaussian.frames import Frame, from_draws
from vi_compare.gaussian.natural_gradient import ENOUGH, LOST
from vi_compare.randomness import split
from vi_compare.solvers import Cost, Expected, Fit, Problem
from vi_compare.solvers._minibatches import fitted_in_a_frame
from vi_compare.solvers._restarts import side_by_side
from vi_compare.target.work import afforded
from vi_compare.verdict import Status


@dataclass(frozen=True)
class FlowTuning:
    """Tunables of the training of a flow.

    Attributes:
        chunk: number of steps that run compiled between two looks.
        draws: of a step under reverse KL; where log p takes long, fewer.
        operations: of log p in all steps, at most; some two minutes of one core.
        fewest: draws of a step in any case.
        minibatch: training draws of a step under forward KL.
        held_out: share of the draws that judge a step under forward KL.
        clip: maximum norm of a gradient.
        stable: share of the steps at one step size, at most.
        least: chunks at one step size, at least.
        far: nats by which a chunk is worse than the best one when its steps were too large; it is
            then undone.
        cut: of the step size when a chunk is undone.
        judging: number of draws on which flow and Gaussian are compared.
        framed_rate: step size of the SVI that fits minibatches.
        certain: standard errors of its gain that make a flow better than the Gaussian.
    """

    chunk: int = 100
    draws: int = 128
    operations: float = 2e11
    fewest: int = 16
    minibatch: int = 256
    held_out: float = 0.2
    clip: float = 5.0
    stable: float = 0.6
    least: int = 8
    far: float = 2.0
    cut: float = 0.3
    judging: int = 16_384
    certain: float = 2.0
    framed_rate: float = 0.01


def suits(guide: Callable, divergence: Divergence | None) -> int | None:
    """Flows that begin as the Gaussian of a frame, under both KLs."""
    if not families.family(guide).begins_as_its_frame:
        return None
    reverse = isinstance(divergence, ReverseKL) and not divergence.score
    return 3 if reverse or isinstance(divergence, ForwardKL) else None


def build(steps: int = 2000, learning_rate: float = 0.05) -> FlowVI:
    """Adam in the frame of the best Gaussian, begun at it: a flow that ends no worse."""
    tuning = FlowTuning()
    least = 2 * tuning.chunk
    if steps < least:
        raise InputError(f"flow: steps must be at least {least}, got {steps}")
    if learning_rate <= 0:
        raise InputError(f"flow: learning_rate must be positive, got {learning_rate}")
    return FlowVI(steps, learning_rate, tuning)


@dataclass(frozen=True)
class FlowVI:
    """See the module.

    Attributes:
        steps: maximum number of steps.
        learning_rate: Adam's step size until the gains end.
        tuning: the rest.
    """

    steps: int
    learning_rate: float
    tuning: FlowTuning = FlowTuning()

    def expected(self, problem: Problem, usual: int = 2000) -> Expected:
        """Of the usual number of steps, and of the Gaussian before them."""
        if problem.target.subsampled:
            return catalogue.load("solvers", "framed").build().expected(problem)
        solver, gaussian = _gaussian_problem(problem, problem.key)
        before, steps = solver.expected(gaussian), min(self.steps, usual)
        drawn = steps * self.draws(problem) if problem.divergence.draws is None else 0
        return Expected(
            before.gradients + drawn, before.programs + 2, before.seconds + 0.01 * steps
        )

    def solve(self, problem: Problem) -> Fit:
        """Fit the guide; SVI in the frame of a Gaussian for minibatches.

        Raises:
            InputError: above the dimensions that a full covariance can be fitted in.
        """
        if problem.target.subsampled:
            return fitted_in_a_frame(problem, learning_rate=self.tuning.framed_rate)
        gaussian_key, train_key, judge_key = split(problem.key, 3)
        solver, first = _gaussian_problem(problem, gaussian_key)
        gaussian = solver.solve(first)
        if not isinstance(gaussian.approximation, GuideApproximation):
            return gaussian
        course = self._course(problem, gaussian.approximation)
        training = Training(course, self.tuning, train_key)
        self._train(training, problem.progress)
        return _Judged(problem, gaussian, course, training, self).fit(judge_key)

    def draws(self, problem: Problem) -> int:
        """Draws of a step under reverse KL, as many as can be had."""
        tuning = self.tuning
        each = self.steps * problem.target.operations
        return afforded(tuning.operations, each, tuning.fewest, tuning.draws)

    def _course(self, problem: Problem, gaussian: GuideApproximation) -> Course:
        divergence = problem.divergence
        if divergence.draws is None:
            steps = ReverseKL(self.draws(problem), stl=True)
            return Course(problem, _frame_of(gaussian), steps, None)
        kept, held_out = _parted(divergence.draws, self.tuning.held_out)
        frame = from_draws(kept.u).frames[0]
        steps = divergence.with_draws(kept).with_particles(self.tuning.minibatch)
        return Course(problem, frame, steps, held_out)

    def _train(self, training: Training, progress: Callable) -> None:
        """At one step size until the gains end, and then as many steps at a falling one."""
        tuning, chunk, rate = self.tuning, self.tuning.chunk, self.learning_rate
        most = max(1, int(tuning.stable * self.steps / chunk))
        tell = lambda: progress(training.steps, self.steps, f"loss {training.scores[-1]:.4g}")
        training.go(rate * np.linspace(0, 1, chunk))
        while len(training.scores) < most and not training.still():
            tell()
            if training.lost():
                rate *= tuning.cut
            training.go(np.full(chunk, rate))
        training.settle()
        left = min(len(training.scores), self.steps // chunk - len(training.scores))
        falling = 0.5 + 0.5 * np.cos(np.pi * np.arange(1, left * chunk + 1) / (left * chunk))
        for rates in rate * falling.reshape(left, chunk):
            tell()
            training.go(rates)
        tell()
        training.end()


@dataclass(frozen=True)
class Course:
    """What a flow is trained on.

    Attributes:
        problem: the guide, and the target.
        frame: u = mean + tril v; its Gaussian is what the flow begins as.
        divergence: whose gradient a step follows.
        held_out: draws that judge a step; None: its own, which are fresh.
    """

    problem: Problem
    frame: Frame
    divergence: Divergence
    held_out: Draws | None

    @property
    def family(self) -> families.Family:
        return families.family(self.problem.guide)

    def start(self, key: Array) -> dict[str, Any]:
        """The guide's parameters over v at which it is the frame's Gaussian."""
        guide, target = self.problem.guide, self.problem.target
        first = families.first_parameters(guide, target, key)
        return self.family.as_its_frame(first, target)

    def at(self, params: dict[str, Any]) -> GuideApproximation:
        """The guide at parameters over v."""
        target = self.problem.target
        placed = self.family.in_frame(params, target, self.frame)
        return GuideApproximation(self.problem.guide, placed, target)


class Training:
    """Steps of Adam, a compiled chunk at a time.

    Attributes:
        losses: one (chunk,) array a chunk, in nats.
        scores: one a chunk, in nats, by draws that its steps have not seen.
        ended: whether the gains had ended when the step size began to fall.
        compile_seconds: spent on compiling.
    """

    def __init__(self, course: Course, tuning: FlowTuning, key: Array):
        self.course, self.tuning = course, tuning
        steady = optax.chain(optax.clip_by_global_norm(tuning.clip), optax.scale_by_adam())
        # Far out in a tail a density can be infinite; such a step moves nothing.
        self.adam = optax.apply_if_finite(steady, max_consecutive_errors=2**30)
        start_key, self.key = split(key, 2)
        began = time.perf_counter()
        self.first = jax.jit(self._begin)(start_key)
        state = self.state = self.first
        rates = jnp.zeros(tuning.chunk)
        self._compiled = jax.jit(self._chunk).lower(state, rates, self.key).compile()
        self.compile_seconds = time.perf_counter() - began
        self.losses: list[np.ndarray] = []
        self.scores: list[float] = []
        self.best, self.ended = (np.inf, self.first), False

    @property
    def steps(self) -> int:
        return self.tuning.chunk * len(self.scores)

    @property
    def approximation(self) -> GuideApproximation:
        """The guide as it has become."""
        return jax.jit(self._at)(self.state[0])

    @property
    def skipped(self) -> int:
        """Steps whose gradient was not finite."""
        return int(self.state[1].total_notfinite)

    def go(self, rates: np.ndarray) -> None:
        """One chunk, at these step sizes (chunk,)."""
        key = jax.random.fold_in(self.key, len(self.scores))
        self.state, losses, score = self._compiled(self.state, jnp.asarray(rates), key)
        self.losses.append(np.asarray(losses))
        self.scores.append(float(score))
        if self.scores[-1] < self.best[0]:
            self.best = self.scores[-1], self.state

    def still(self) -> bool:
        """Whether the last quarter of the chunks has gained no more than its error, or than is
        enough, over the quarter before."""
        n = len(self.scores) // 4
        if len(self.scores) < self.tuning.least:
            return False
        old, new = np.array(self.scores[-2 * n : -n]), np.array(self.scores[-n:])
        error = np.sqrt((old.var(ddof=1) + new.var(ddof=1)) / n)
        return not old.mean() - new.mean() > max(error, ENOUGH)

    def lost(self) -> bool:
        """Whether the last chunk went far from the best one, and was undone."""
        if self.scores[-1] <= self.best[0] + self.tuning.far:
            return False
        self.state = self.best[1]
        return True

    def settle(self) -> None:
        """Before the step size falls: say whether the gains have ended, and go back to the best
        parameters where draws were held out."""
        self.ended = self.still()
        self._back()

    def end(self) -> None:
        """After the last step."""
        self._back()

    def _back(self) -> None:
        # Scores by fresh draws differ by their noise, those by held-out draws only by what is
        # learned by heart.
        if self.course.held_out is not None:
            self.state = self.best[1]

    def _begin(self, key: Array):
        problem = self.course.problem
        x = families.unconstrained(problem.guide, problem.target, self.course.start(key))
        return x, self.adam.init(x)

    def _at(self, x: dict) -> GuideApproximation:
        problem = self.course.problem
        return self.course.at(families.constrained(problem.guide, problem.target, x))

    def _loss(self, x: dict, key: Array) -> Array:
        course = self.course
        return course.divergence.estimate(key, self._at(x), course.problem.target)

    def _chunk(self, state, rates: Array, key: Array):
        def step(state, given):
            (x, adam), (rate, key) = state, given
            loss, slope = jax.value_and_grad(self._loss)(x, key)
            way, adam = self.adam.update(slope, adam, x)
            return (jax.tree.map(lambda a, b: a - rate * b, x, way), adam), loss

        keys = jax.random.split(key, len(rates))
        state, losses = jax.lax.scan(step, state, (rates, keys))
        held_out = self.course.held_out
        if held_out is None:
            return state, losses, losses.mean()
        log_q = jax.vmap(self._at(state[0]).log_prob)(held_out.u)
        return state, losses, -log_q.mean()


@dataclass(frozen=True)
class _Judged:
    """A trained flow beside the Gaussian that it began as."""

    problem: Problem
    gaussian: Fit
    course: Course
    training: Training
    solver: FlowVI

    def fit(self, key: Array) -> Fit:
        """The flow if it has surely gained, and otherwise the guide at the best Gaussian."""
        training, start_key = self.training, split(key, 2)[1]
        begun = self.course.at(jax.jit(self.course.start)(start_key))
        flow = training.approximation
        before, after = (self._scores(q, key) for q in (begun, flow))
        gains = after - before
        finite = np.isfinite(gains)
        gain, error = _mean_and_error(gains[finite])
        won = bool(finite.mean() > 1 - LOST and gain > self.solver.tuning.certain * error)
        q = flow if won else self._as_gaussian(start_key)
        loss = _mean_and_error(-(after if won else before)[finite])
        words = (
            f"{with_error(gain, error)} nats better than the best Gaussian"
            if won
            else f"the best Gaussian, as training gained {with_error(gain, error)} nats over it"
        )
        return self._told(q, f"{words}; {self._how_it_ended()}", loss)

    def _scores(self, q: GuideApproximation, key: Array) -> np.ndarray:
        """(n,) log p − log q at draws of q, or log q at those that were held out; of two
        approximations at the same random numbers."""
        if self.course.held_out is not None:
            return np.asarray(q.at(self.course.held_out).log_q, float)
        draws = q.sample(key, self.solver.tuning.judging)
        return np.asarray(draws.log_p, float) - np.asarray(draws.log_q, float)

    def _as_gaussian(self, key: Array) -> GuideApproximation:
        """The guide as the best Gaussian: of all draws, where some were held out."""
        found = self.gaussian.approximation
        assert isinstance(found, GuideApproximation)
        course = replace(self.course, frame=_frame_of(found))
        return course.at(jax.jit(course.start)(key))

    def _how_it_ended(self) -> str:
        training = self.training
        how = "until the gains ended" if training.ended else "and gaining still"
        skipped = training.skipped
        lost = f", {skipped} of them skipped as their gradient was not finite" if skipped else ""
        words = f"trained for {training.steps} steps{lost}, {how}"
        draws, most = self.solver.draws(self.problem), self.solver.tuning.draws
        if self.course.held_out is None and draws < most:
            words += f"; as log p takes long, a step had {draws} draws and not {most}"
        return words

    def _told(self, q: GuideApproximation, message: str, loss: tuple[float, float]) -> Fit:
        """The fit, its restarts those of the Gaussian, the best of which went on."""
        gaussian, training, solver = self.gaussian, self.training, self.solver
        best = gaussian.chosen or 0
        rows, losses = list(gaussian.restarts), [row[np.isfinite(row)] for row in gaussian.losses]
        value, error = loss
        if self.course.held_out is None:
            rows[best] = replace(rows[best], loss=value, standard_error=error)
        losses[best] = np.concatenate([losses[best], *training.losses])
        return Fit(
            q,
            Status.CONVERGED if training.ended else Status.NOT_CONVERGED,
            message,
            side_by_side(losses),
            tuple(rows),
            best,
            cost=gaussian.cost + self._cost(),
            settings={"steps": training.steps, "tested_steps": training.steps // 4},
            remedy=f"raise flow:steps={solver.steps * 4}",
        )

    def _cost(self) -> Cost:
        """Of the training and of judging."""
        compiling, steps = self.training.compile_seconds, self.training.steps
        each = self.course.divergence.evaluations(1)
        judging = 0 if self.course.held_out is not None else 2 * self.solver.tuning.judging
        return Cost(compiling, steps * each.log_density + judging, steps * each.gradient)


def _gaussian_problem(problem: Problem, key: Array) -> tuple[Any, Problem]:
    """The problem of the best Gaussian, and its solver."""
    target, reverse = problem.target, problem.divergence.draws is None
    guide = AutoMultivariateNormal(target.model)
    divergence = ReverseKL() if reverse else problem.divergence
    made = Problem.of(target, guide, divergence, key, problem.restarts, problem.progress)
    return catalogue.load("solvers", "whitened" if reverse else "moments").build(), made


def _frame_of(gaussian: GuideApproximation) -> Frame:
    """The frame in which a full-rank Gaussian is the standard normal."""
    found = gaussian.family.gaussian(gaussian.params, gaussian.target)
    assert found is not None
    return Frame.of(found)


def _parted(draws: Draws, share: float) -> tuple[Draws, Draws]:
    """Draws to train on, and the last `share` of every chain."""
    rows = draws.by_chain
    if len(rows) == 1:  # of independent ones, every so many-th
        every = round(1 / share)
        chosen = np.arange(len(draws)) % every == every - 1
    else:
        held = np.arange(rows.shape[1]) >= round((1 - share) * rows.shape[1])
        chosen = np.tile(held, len(rows))
    bare = Draws(draws.u, {}, draws.log_p)
    return bare[np.flatnonzero(~chosen)], bare[np.flatnonzero(chosen)]


def _mean_and_error(values: np.ndarray) -> tuple[float, float]:
    """Mean and its standard error; infinitely bad where there are too few values."""
    if len(values) < 2:
        return -np.inf, np.inf
    return float(values.mean()), float(values.std(ddof=1) / np.sqrt(len(values)))
