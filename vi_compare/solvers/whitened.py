"""The best Gaussian under reverse KL, with nothing to set.

1. Paths: quasi-Newton ascents from random starts; the best Gaussian on each
   (gaussian/pathfinder.py); and one more ascent from the best of what they found coordinate by
   coordinate.
2. Starts: those that differ, and a few small plain Gaussians.
3. Rounds: the ELBO on draws held fixed is an ordinary function, maximised by L-BFGS in the
   frame of the Gaussian itself (Giordano et al. 2024, "Black box variational inference with
   a deterministic objective", JMLR 25); more draws each round, in the frame it ended at.
4. Polish: natural gradients on fresh draws until the noise left is small
   (gaussian/natural_gradient.py).
5. Choose: the best ELBO on draws that all share.

Fixed draws make full-rank fits possible only where they far outnumber the dimension, and
their covariance must be exactly I (gaussian/antithetic.py); the polish takes out the bias they
leave.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
from jax import Array

from vi_compare import catalogue, families
from vi_compare.approximation import GuideApproximation
from vi_compare.divergences.reverse_kl import ReverseKL
from vi_compare.errors import InputError
from vi_compare.formatting import count, plain, with_error, words
from vi_compare.gaussian.antithetic import even_pairs
from vi_compare.gaussian.frames import MOST, MOST_FULL
from vi_compare.gaussian.gaussians import LEAST_DRAWS, FullRank, Gaussian, MeanField, jeffreys
from vi_compare.gaussian.low_rank import LowRank, project
from vi_compare.gaussian.natural_gradient import LOST, Polish, polish
from vi_compare.gaussian.pathfinder import (
    Make,
    best_on_paths,
    elbo,
    exchanged,
    full_rank,
    mean_field,
    trial,
)
from vi_compare.gaussian.quasi_newton import Limited, descend, together
from vi_compare.randomness import generator, power_of_two, split
from vi_compare.scores import Scores
from vi_compare.solvers import Cost, Fit, Problem, Progress, Restart
from vi_compare.solvers._restarts import SAME_BASIN, SELECTION_DRAWS, grouped, side_by_side
from vi_compare.starts import starting_points
from vi_compare.target import Target
from vi_compare.verdict import Status

PLAIN_STARTS, PLAIN_SCALE = 2, 0.1
MOST_PATHS = 10
# Climbs from which single coordinates are taken.
DONORS = 16
# Path Gaussians that are followed; and fits that go on after the first round.
MOST_FOLLOWED, MOST_CARRIED = 4, 3
# Two path Gaussians are apart when their ELBOs differ by so many nats, or their means by so
# many times sqrt(d) standard deviations.
APART_ELBO, APART_MEANS = 0.5, 3.0
# Two fits are one when so many nats of symmetrised KL apart, before the polish.
ALIKE = 0.5
# Whether the ELBO sags between two fits cannot be told from a mean with such an error, in nats.
BLURRED = 1.0
# Rounds on so many draws at most: where one draw per dimension costs much, the polish does the
# rest, without bias and in fewer evaluations.
ROUNDS, MOST_FIXED = 3, 2048
LAST_FIXED = 4 * MOST_FIXED  # of a family that has no polish
FIXED = "L-BFGS on fixed draws"
STEPS, MEMORY, SMALL = 60, 20, 1e-3
RANKING_DRAWS, CHECKING_DRAWS = 512, 1024
# A fit so many nats behind after the rounds is not polished: the polish gains less.
BEHIND = 3.0


def suits(guide: Callable, divergence) -> int | None:
    """A Gaussian, of full or low rank or mean field, under reverse KL; not where one form of
    its gradient is asked for."""
    plain = isinstance(divergence, ReverseKL) and not (divergence.stl or divergence.score)
    return 3 if plain and kind(guide) is not None else None


def build(starts: int = MOST_PATHS) -> WhitenedVI:
    """Paths, fixed draws in a whitened frame, natural gradients: stops by itself, no settings."""
    if starts < 1:
        raise InputError(f"whitened: starts must be positive, got {starts}")
    return WhitenedVI(starts)


@dataclass(frozen=True)
class Kind:
    """Attributes:
    make: Gaussians on a path.
    into: one of them -> the family's own nearest to it.
    most: dimensions up to which it is fitted.
    name, remedy: what it is called, and what to take above that.
    params: (family, Gaussian, target) -> the guide's parameters.
    """

    make: Make
    into: Callable[[Any, np.random.Generator], Gaussian]
    most: int
    name: str
    remedy: str
    params: Callable[[families.Family, Any, Target], dict]


def _as_it_is(q, rng):
    return q


def _whole(family: families.Family, q: Gaussian, target: Target) -> dict:
    return family.from_gaussian(q.mean, q.root, target)


FULL_RANK = Kind(
    full_rank, _as_it_is, MOST_FULL, "a full covariance", "take normal or lowrank:10", _whole
)
MEAN_FIELD = Kind(
    mean_field,
    _as_it_is,
    MOST,
    "a mean-field Gaussian",
    "fit a part of the model, or marginalise what can be",
    _whole,
)


def kind(guide: Callable) -> Kind | None:
    """How Gaussians of the guide's covariances are fitted; None where it is no Gaussian."""
    family = families.family(guide)
    match family.covariances:
        case families.Covariances.FULL:
            return FULL_RANK
        case families.Covariances.DIAGONAL:
            return MEAN_FIELD
        case families.Covariances.LOW_RANK:
            return _low_rank(family)
    return None


def _low_rank(family: families.Family) -> Kind:
    def into(q, rng: np.random.Generator) -> LowRank:
        return project(q, family.rank(len(q.mean)), rng)

    return Kind(
        _either,
        into,
        MOST,
        "a Gaussian of low rank",
        MEAN_FIELD.remedy,
        lambda family, q, target: family.from_low_rank(q, target),
    )


def _either(x: np.ndarray, slope: np.ndarray, precision: np.ndarray):
    """Path Gaussians that a low rank is taken from: full ones, as long as they can be had."""
    return (full_rank if len(x) <= MOST_FULL else mean_field)(x, slope, precision)


def _plain(x: np.ndarray, make: Make) -> FullRank | MeanField:
    """A small Gaussian at x."""
    return make(x, np.zeros_like(x), np.eye(len(x)) / PLAIN_SCALE**2)[0]


@dataclass(eq=False)
class Run:
    """One start on its way.

    Attributes:
        gaussian: where it is; None if it never was finite.
        elbo: there, in nats, as its last stage estimated it.
        losses: −ELBO in nats, one for each step so far.
        into: the run that it was merged with, as both lead to one optimum.
        why: "" or why it was not followed to the end.
        polished: how its last stage went; None before it.
        excess: log p − log q (n,) at the draws that decide.
        basin: 0 for the best optimum, then 1, 2, ...; None if it was not followed.
    """

    gaussian: Gaussian | None
    elbo: float
    losses: list[float] = field(default_factory=list)
    into: Run | None = None
    why: str = ""
    polished: Polish | None = None
    excess: np.ndarray = field(default_factory=lambda: np.zeros(0))
    basin: int | None = None

    @property
    def leader(self) -> Run:
        return self if self.into is None else self.into.leader


@dataclass(frozen=True)
class WhitenedVI:
    """See the module.

    Attributes:
        starts: paths at most; a study that asks for fewer restarts gets as many.
    """

    starts: int

    def solve(self, problem: Problem) -> Fit:
        """The best Gaussian that the starts lead to; SVI in the frame of one for minibatches.

        Raises:
            InputError: above the dimensions that this family can be fitted in.
        """
        target, family = problem.target, kind(problem.guide)
        assert family is not None
        if target.dim > family.most:
            raise InputError(_too_many(target.dim, family))
        if target.subsampled:
            return _stochastic(problem)
        _, key = split(problem.key, 2)
        search = Search(target, family, key, problem.progress)
        with np.errstate(all="ignore"):  # a trial that overflows is a step too long
            search.run(min(self.starts, problem.restarts))
        return search.fit(problem.guide)


def _too_many(dim: int, family: Kind) -> str:
    remedy = family.remedy
    return (
        f"{family.name} in {dim:,} dimensions: more than {family.most:,} would take more memory "
        f"and time than a fit is worth; {remedy}, or name the solver svi to try all the same"
    )


def _stochastic(problem: Problem) -> Fit:
    """Fixed draws of a minibatch's density are no function that could be maximised."""
    solver = catalogue.load("solvers", "framed").build()
    fit = solver.solve(problem)
    plates = ", ".join(map(repr, problem.target.subsampled))
    why = f"the model sees a minibatch of {plates}, so it was fitted by SVI in a Gaussian's frame"
    return replace(fit, message=f"{why}: {fit.message}")


class Search:
    """All starts of one fit, from their paths to the choice among them."""

    def __init__(self, target: Target, family: Kind, key: Array, progress: Progress):
        self.target, self.family, self.progress = target, family, progress
        self.key, generator_key = split(key, 2)
        self.rng = generator(generator_key)
        self.scores = Scores(target)
        self.runs: list[Run] = []
        self.ended: list[Run] = []
        self.done = 0

    def run(self, paths: int) -> None:
        self._start(paths)
        live = self._alive(self.runs)
        base = max((one.gaussian.draws for one in live if one.gaussian), default=LEAST_DRAWS)
        for number in range(ROUNDS):
            draws = base << number
            if number and draws > MOST_FIXED:
                break
            e = even_pairs(self.rng, draws, self.scores.dim)
            for one in live:
                self._improve(one, e, f"round {number + 1}, {draws} draws")
            live = self._thin(self._ranked(self._alive(live)), MOST_CARRIED)
        best = max((one.elbo for one in live), default=-np.inf)
        for one in live:
            if one.elbo >= best - BEHIND:
                self._polish(one)
        self._choose(live)

    # --- stages ----------------------------------------------------------------------

    def _start(self, paths: int) -> None:
        points = self._points(paths + PLAIN_STARTS + DONORS)
        climb = lambda x: best_on_paths(self.scores, x, self.family.make, self.rng)
        found = climb(points[:paths])
        best = max((one for one in found if one), key=lambda one: one.elbo, default=None)
        if best is not None:
            more = exchanged(self.scores, best, points[-DONORS:])
            found += [] if more is None else climb(more[None])
        self.runs = [
            Run(None, -np.inf, why="no Gaussian on its path has a finite ELBO")
            if one is None
            else Run(one.gaussian, one.elbo, [-one.elbo])
            for one in found
        ]
        self._tell("paths")
        self._thin(self._varied(self._alive(self.runs)), MOST_FOLLOWED)
        self.runs += [Run(_plain(x, self.family.make), -np.inf) for x in points[paths:-DONORS]]
        for one in self._alive(self.runs):
            assert one.gaussian is not None
            one.gaussian = self.family.into(one.gaussian, self.rng)

    def _varied(self, runs: list[Run]) -> list[Run]:
        """Best first, but those near a better one after all that are not."""
        first: list[Run] = []
        ranked = sorted(runs, key=lambda run: -run.elbo)
        for one in ranked:
            if all(_apart(one, other) for other in first):
                first.append(one)
        return first + [one for one in ranked if one not in first]

    def _points(self, n: int) -> np.ndarray:
        return np.asarray(starting_points(self.target, self.key, n, self.scores), float)

    def _alive(self, runs: list[Run]) -> list[Run]:
        return [one for one in runs if not one.why and one.into is None]

    def _improve(self, one: Run, e: np.ndarray, what: str) -> None:
        """One round: L-BFGS on the fixed draws e (n, d), from where the run is."""
        assert one.gaussian is not None
        q = _settled(self.scores, one.gaussian, e)
        if q is None:
            one.why = "log p is not finite around it"
            return

        def objective(thetas: np.ndarray):
            results = [trial(self.scores, q, theta, e) for theta in thetas]
            return tuple(map(np.stack, zip(*results, strict=True)))

        start = np.zeros(q.size)
        (path,) = together([descend(start, partial(Limited, MEMORY), STEPS, SMALL)], objective)
        one.gaussian, one.elbo = q.moved(path[-1].x), q.entropy - path[-1].value
        one.losses += [point.value - q.entropy for point in path[1:]]
        self._tell(f"{what}, loss {-one.elbo:.5g}")

    def _ranked(self, runs: list[Run]) -> list[Run]:
        """Best first, judged on draws that they share."""
        e = even_pairs(self.rng, RANKING_DRAWS, self.scores.dim)
        for one in runs:
            assert one.gaussian is not None
            one.elbo, one.excess = elbo(self.scores, one.gaussian, e)
        return sorted(runs, key=lambda run: -run.elbo)

    def _thin(self, runs: list[Run], most: int) -> list[Run]:
        """The first `most` that differ; the others are merged with them or given up."""
        e = even_pairs(self.rng, RANKING_DRAWS, self.scores.dim)
        kept: list[Run] = []
        for one in runs:
            alike = next((other for other in kept if self._same(one, other, ALIKE, e)), None)
            if alike is not None:
                one.into = alike
            elif len(kept) == most:
                one.why = f"not followed: {words(most)} others promised more"
            else:
                kept.append(one)
        return kept

    def _same(self, one: Run, other: Run, nats: float, e: np.ndarray) -> bool:
        """Whether two runs are at one optimum, or on the same slope of one.

        They are where they differ by few nats, or where the ELBO, on the draws e (n, d),
        does not sag halfway between them. It sags between two modes.
        """
        p, q = one.gaussian, other.gaussian
        assert p is not None
        assert q is not None
        if jeffreys(p, q) < nats:
            return True
        ends = (elbo(self.scores, p, e)[1] + elbo(self.scores, q, e)[1]) / 2
        rise = _finite(elbo(self.scores, p.halfway(q), e)[1], ends)
        if len(rise) < (1 - LOST) * len(e):
            return False
        error = rise.std(ddof=1) / np.sqrt(len(rise))
        return bool(error < BLURRED and rise.mean() > -error)

    def _polish(self, one: Run) -> None:
        q = one.gaussian
        if isinstance(q, LowRank):
            self._once_more(one, q)
            return
        assert isinstance(q, FullRank | MeanField)
        if isinstance(q, MeanField) and len(q.mean) <= FULL_RANK.most:
            e = even_pairs(self.rng, power_of_two(max(LEAST_DRAWS, 8 * len(q.mean))), len(q.mean))
            log_p, slopes = self.scores(q.points(e))
            if np.isfinite(log_p).all():
                q = q.reframed(e, slopes)
        tell = lambda step, loss: self._tell(f"polish step {step}, loss {loss:.5g}")
        done = polish(q, self.scores, self.rng, tell)
        one.losses += done.losses
        e = self.rng.standard_normal((CHECKING_DRAWS, len(q.mean)))
        gain = _finite(elbo(self.scores, done.gaussian, e)[1], elbo(self.scores, q, e)[1])
        error = gain.std(ddof=1) / np.sqrt(len(gain))
        one.polished = done
        if gain.mean() > -min(1.0, max(0.01, 2 * error)):
            one.gaussian = done.gaussian
        else:
            done.trouble = done.trouble or "the polish lost what the rounds had gained"

    def _once_more(self, one: Run, q: LowRank) -> None:
        """A round on many draws. What is lost to having seen n draws falls as 1/n, so the
        gain, on draws that neither has seen, tells what the new one still lacks."""
        seen = min(q.draws << (ROUNDS - 1), MOST_FIXED)
        before = len(one.losses)
        self._improve(one, even_pairs(self.rng, LAST_FIXED, self.scores.dim), "last round")
        if one.why:
            return
        assert one.gaussian is not None
        e = self.rng.standard_normal((LAST_FIXED, self.scores.dim))
        gain = _finite(elbo(self.scores, one.gaussian, e)[1], elbo(self.scores, q, e)[1])
        error = gain.std(ddof=1) / np.sqrt(len(gain))
        left = float(abs(gain.mean()) + error) / (LAST_FIXED / seen - 1)
        steps = one.losses[before:]
        moving = len(steps) >= STEPS
        one.polished = Polish(one.gaussian, steps, left, moving, steps_of=FIXED)

    def _choose(self, runs: list[Run]) -> None:
        """The final ELBO of every run that was followed to its end, on draws that they share."""
        e = self.rng.standard_normal((SELECTION_DRAWS, self.scores.dim))
        for one in runs:
            assert one.gaussian is not None
            one.excess = elbo(self.scores, one.gaussian, e)[1]
            finite = np.isfinite(one.excess)
            if finite.mean() < 1 - LOST:
                one.why = f"log p is not finite at {1 - finite.mean():.0%} of its draws"
            one.elbo = float(one.excess[finite].mean()) if finite.any() else -np.inf
        self.ended = sorted((r for r in runs if not r.why), key=lambda run: -run.elbo)
        alike = lambda leader, one: self._same(one, leader, SAME_BASIN, e)
        for one, basin in zip(self.ended, grouped(self.ended, alike), strict=True):
            one.basin = basin

    # --- results ---------------------------------------------------------------------

    def _tell(self, what: str) -> None:
        self.done += 1
        self.progress(self.done, max(self.done + 1, 60), what)

    def fit(self, guide: Callable) -> Fit:
        """What came out, as the guide's parameters."""
        rows = tuple(_row(one) for one in self.runs)
        losses = side_by_side([one.losses for one in self.runs])  # −ELBO
        best = next((one for one in self.ended if one.polished is not None), None)
        if best is None:
            first = next((one.why for one in self.runs if one.why), "no start was usable")
            message = f"no start led to a Gaussian with a finite ELBO; the first: {first}"
            return Fit(None, Status.FAILED, message, losses, rows, cost=self._cost())
        q = best.gaussian
        assert q is not None
        assert best.polished is not None
        params = self.family.params(families.family(guide), q, self.target)
        converged = best.polished.converged and not _holes(best)
        return Fit(
            GuideApproximation(guide, params, self.target),
            Status.CONVERGED if converged else Status.NOT_CONVERGED,
            _message(self.runs, self.ended, best),
            losses,
            rows,
            self.runs.index(best),
            self._cost(),
            settings={
                "starts": len(self.runs),
                "polish_steps": best.polished.steps,
                "tested_steps": best.polished.steps // 2,
                "nats_left": _number(best.polished.left),
            },
            remedy="" if converged else _remedy(best),
        )

    def _cost(self) -> Cost:
        scores = self.scores
        return Cost(scores.compile_seconds, scores.densities, scores.gradients)


def _apart(one: Run, other: Run) -> bool:
    """Whether two path Gaussians are worth following both."""
    a, b = one.gaussian, other.gaussian
    assert a is not None
    assert b is not None
    far = np.linalg.norm(b.unrooted(a.mean - b.mean)) > APART_MEANS * np.sqrt(len(a.mean))
    return bool(far or abs(one.elbo - other.elbo) > APART_ELBO)


def _row(one: Run) -> Restart:
    end = one.leader
    if end.why or end.basin is None:
        return Restart(None, None, None, end.why)
    finite = end.excess[np.isfinite(end.excess)]
    error = float(finite.std(ddof=1) / np.sqrt(len(finite)))
    return Restart(-end.elbo, error, end.basin, "finished")


def _message(runs: list[Run], ended: list[Run], best: Run) -> str:
    basins = [one.leader.basin for one in runs]
    parts = [f"{basins.count(best.basin)} of {count(len(runs))} starts reached this optimum"]
    others = [one for one in ended if one.basin != best.basin]
    if others:
        parts.append(f"the next is {_gap(best, others[0])}")
    if lost := sum(one.leader.basin is None for one in runs):
        parts.append(f"{lost} were not followed to an end")
    assert best.polished is not None
    parts.append(_stop(best.polished))
    if holes := _holes(best):
        parts.append(f"log p is not finite at {holes} of {len(best.excess)} draws of it")
    parts.append("a better optimum that no start reached cannot be excluded")
    return "; ".join(parts)


def _remedy(best: Run) -> str:
    if _holes(best):
        return "keep log p finite (a proper support for the site, or another parameterisation)"
    return "name the solver framed or svi, whose steps can be raised"


def _gap(best: Run, other: Run) -> str:
    gaps = _finite(best.excess, other.excess)
    error = float(gaps.std(ddof=1) / np.sqrt(len(gaps)))
    if abs(gaps.mean()) < 2 * error:
        return f"as good within the error ({with_error(float(gaps.mean()), error)} nats worse)"
    return f"{plain(float(gaps.mean()))} nats worse"


def _holes(one: Run) -> int:
    """Draws of the deciding ones at which log p is not finite."""
    return int((~np.isfinite(one.excess)).sum())


def _finite(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """one − other (n,), where both are finite."""
    both = np.isfinite(one) & np.isfinite(other)
    return one[both] - other[both]


def _stop(polished: Polish) -> str:
    steps = f"{polished.steps} steps of {polished.steps_of}"
    if polished.trouble:
        return f"the last stage broke off after {steps}: {polished.trouble}"
    left = f"an estimated {plain(max(polished.left, 1e-4), 1)} nats are left to gain there"
    if polished.moving:
        return f"it was still moving after {steps}; from noise alone {left}"
    return f"stopped after {steps}, as {left}"


def _number(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def _settled(scores: Scores, q: Gaussian, e: np.ndarray) -> Gaussian | None:
    """The Gaussian itself, or shrunk until log p is finite at every one of its points."""
    for factor in (1.0, 0.8, 0.5, 0.2, 0.05, 0.01, 0.001):
        shrunk = q.shrunk(factor)
        if np.isfinite(scores(shrunk.points(e))[0]).all():
            return shrunk
    return None
