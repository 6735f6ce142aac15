"""The best Gaussian under reverse KL, with nothing to set.

1. Paths: quasi-Newton ascents from random starts, with the best Gaussian on each
   (gaussian/pathfinder.py). One more ascent begins where the best coordinates of all ends are
   put together.
2. Starts: the Gaussians that differ, and a few small plain ones.
3. Rounds: the ELBO on draws held fixed is an ordinary function, maximised by L-BFGS in the
   frame of the Gaussian itself (Giordano et al. 2024, "Black box variational inference with
   a deterministic objective", JMLR 25); more draws each round, in the frame it ended at.
4. Polish: refinement by natural gradients on fresh draws until the noise left is small
   (gaussian/natural_gradient.py).
5. Choose: the best ELBO on draws that all share.

A full-rank fit on fixed draws needs far more of them than dimensions, and their covariance
must be exactly I (gaussian/antithetic.py). The polish removes the bias that they leave.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
from jax import Array

from vi_compare import catalogue, families
from vi_compare.approximation import GuideApproximation
from vi_compare.divergences.reverse_kl import ReverseKL
from vi_compare.errors import InputError
from vi_compare.estimate import Estimate
from vi_compare.formatting import count, plain, with_error, words
from vi_compare.gaussian.antithetic import even_pairs
from vi_compare.gaussian.frames import MOST
from vi_compare.gaussian.gaussians import (
    MOST_FULL,
    FullRank,
    Gaussian,
    MeanField,
    enough_draws,
    jeffreys,
)
from vi_compare.gaussian.low_rank import LowRank, project
from vi_compare.gaussian.natural_gradient import ENOUGH, LOST, Polish, polish
from vi_compare.gaussian.pathfinder import (
    Found,
    Make,
    apart,
    best_on_paths,
    elbo,
    exchanged,
    full_rank,
    mean_field,
    trial,
)
from vi_compare.gaussian.quasi_newton import Limited, descend, together
from vi_compare.randomness import generator, split
from vi_compare.scores import Scores
from vi_compare.solvers import Cost, Expected, Fit, Problem, Progress, Restart
from vi_compare.solvers._minibatches import fitted_in_a_frame
from vi_compare.solvers._restarts import SAME_BASIN, Selection, grouped, side_by_side
from vi_compare.starts import starting_points
from vi_compare.target import Target
from vi_compare.verdict import Status


@dataclass(frozen=True)
class WhitenedTuning:
    """Tunables of the search for the best Gaussian, stage by stage.

    Attributes:
        plain_starts: number of plain Gaussians to start from where paths do not agree, for
            targets where no path helps.
        plain_scale: standard deviation of a plain Gaussian, in units of u; small, so that its
            draws stay where log p is finite.
        donors: number of further ascents that single coordinates are taken from.
        followed: maximum number of Gaussians on paths that are followed.
        carried: maximum number of fits that go on after a round.
        alike: two fits are one, before the polish, when their symmetrised KL in nats is less.
        blurred: maximum standard error in nats of a mean that tells whether the ELBO sags
            between two fits.
        rounds: number of rounds, each on twice the draws of the one before.
        most_draws: maximum number of draws of a round. Where that is few for the dimension, the
            polish does the rest, without bias and in fewer evaluations.
        steps: maximum number of L-BFGS steps of a round.
        memory: pairs that L-BFGS remembers.
        small: gain of a step in nats below which it is small.
        ranking_draws: number of draws on which fits are ranked and compared.
        behind: a fit this many nats behind after the rounds is not polished, as the polish
            gains less.
        checking_draws: number of draws on which a polish must not lose to the rounds.
        last_draws: number of draws of the last round of a family that has no polish.
        choosing_draws: number of draws on which the best fit is chosen, as for other solvers.
    """

    plain_starts: int = 2
    plain_scale: float = 0.1
    donors: int = 16
    followed: int = 4
    carried: int = 3
    alike: float = 0.5
    blurred: float = 1.0
    rounds: int = 3
    most_draws: int = 2048
    steps: int = 60
    memory: int = 20
    small: float = 1e-3
    ranking_draws: int = 512
    behind: float = 3.0
    checking_draws: int = 1024
    last_draws: int = 8192
    choosing_draws: int = Selection.draws


def suits(guide: Callable, divergence) -> int | None:
    """A Gaussian, of full or low rank or mean field, under reverse KL; not where one form of
    its gradient is asked for."""
    plain = isinstance(divergence, ReverseKL) and not (divergence.stl or divergence.score)
    return 3 if plain and kind(guide) is not None else None


def build(starts: int = 10) -> WhitenedVI:
    """Paths, fixed draws in a whitened frame, natural gradients: stops by itself, no settings."""
    if starts < 1:
        raise InputError(f"whitened: starts must be positive, got {starts}")
    return WhitenedVI(starts)


@dataclass(frozen=True)
class Recipe:
    """A family of Gaussians, as the search needs to know it.

    Attributes:
        make: Gaussians on a path.
        into: one of them -> the nearest Gaussian of the family.
        most: maximum dimension.
        name: in messages.
        remedy: what to take above the maximum dimension.
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


def _without_full_covariance(make: Make, into: Callable, name: str, params: Callable) -> Recipe:
    remedy = "fit a part of the model, or marginalise what can be"
    return Recipe(make, into, MOST, name, remedy, params)


def kind(guide: Callable) -> Recipe | None:
    """How Gaussians of the guide's covariances are fitted; None where it is no Gaussian."""
    family = families.family(guide)
    match family.covariances:
        case families.Covariances.FULL:
            return _full(family)
        case families.Covariances.DIAGONAL:
            return _diagonal(family)
        case families.Covariances.LOW_RANK:
            return _low_rank(family)
    return None


def _full(family: families.Family) -> Recipe:
    remedy = "take normal or lowrank:10"
    return Recipe(full_rank, _as_it_is, MOST_FULL, "a full covariance", remedy, _whole)


def _diagonal(family: families.Family) -> Recipe:
    return _without_full_covariance(mean_field, _as_it_is, "a mean-field Gaussian", _whole)


def _low_rank(family: families.Family) -> Recipe:
    into = lambda q, rng: project(q, family.rank(len(q.mean)), rng)
    params = lambda family, q, target: family.from_low_rank(q, target)
    return _without_full_covariance(_either, into, "a Gaussian of low rank", params)


def _either(x: np.ndarray, gradient: np.ndarray, precision: np.ndarray):
    """Gaussians on a path that one of low rank is projected from: full up to `MOST_FULL`."""
    return (full_rank if len(x) <= MOST_FULL else mean_field)(x, gradient, precision)


@dataclass(eq=False)
class Start:
    """One start on its way to an optimum.

    Attributes:
        gaussian: q as it is now; None if it never was finite.
        elbo: its ELBO in nats, as its last stage estimated it.
        losses: −ELBO in nats, one for each step so far.
        merged_with: the start that it was merged with, as both lead to one optimum.
        why: "" or why it was not followed to the end.
        polished: how its last stage went; None before it.
        log_ratios: log-density ratios log p − log q (n,) at the draws that decide.
        basin: 0 for the best optimum, then 1, 2, ...; None if it was not followed.
    """

    gaussian: Gaussian | None
    elbo: float
    losses: list[float] = field(default_factory=list)
    merged_with: Start | None = None
    why: str = ""
    polished: Polish | None = None
    log_ratios: np.ndarray = field(default_factory=lambda: np.zeros(0))
    basin: int | None = None

    @property
    def leader(self) -> Start:
        return self if self.merged_with is None else self.merged_with.leader


@dataclass(frozen=True)
class WhitenedVI:
    """See the module.

    Attributes:
        starts: maximum number of paths; a study that asks for fewer restarts gets as many.
        tuning: the rest.
    """

    starts: int
    tuning: WhitenedTuning = WhitenedTuning()

    def expected(self, problem: Problem) -> Expected:
        """As fits of the gallery take, from 2 to 100 dimensions; one of low rank is searched for
        as long again, and once more by its projections."""
        if problem.target.subsampled:
            return catalogue.load("solvers", "framed").build().expected(problem)
        gradients = 60_000 + 600 * problem.target.dim
        covariances = families.family(problem.guide).covariances
        if covariances == families.Covariances.LOW_RANK:
            return Expected(3 * gradients, programs=1, seconds=5)
        return Expected(gradients, seconds=1)

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
            return fitted_in_a_frame(problem)
        _, key = split(problem.key, 2)
        search = GaussianSearch(target, family, key, problem.progress, self.tuning)
        with np.errstate(all="ignore"):  # a trial that overflows is a step too long
            search.run(min(self.starts, problem.restarts))
        return search.fit(problem.guide)


def _too_many(dim: int, family: Recipe) -> str:
    remedy = family.remedy
    return (
        f"{family.name} in {dim:,} dimensions: more than {family.most:,} would take more memory "
        f"and time than a fit is worth; {remedy}, or name the solver svi to try all the same"
    )


class GaussianSearch:
    """All starts of one fit, from their paths to the choice among them."""

    def __init__(
        self,
        target: Target,
        family: Recipe,
        key: Array,
        progress: Progress,
        tuning: WhitenedTuning,
    ):
        self.target, self.family, self.progress, self.tuning = target, family, progress, tuning
        self.key, generator_key = split(key, 2)
        self.rng = generator(generator_key)
        self.scores = Scores(target)
        self.runs: list[Start] = []
        self.ended: list[Start] = []
        self.done = 0

    def run(self, paths: int) -> None:
        self._start(paths)
        live = self._rounds(self._alive(self.runs))
        best = max((one.elbo for one in live), default=-np.inf)
        for one in live:
            if one.elbo >= best - self.tuning.behind:
                self._polish(one)
        self._choose(live)

    # --- stages ----------------------------------------------------------------------

    def _start(self, paths: int) -> None:
        tuning, make = self.tuning, self.family.make
        points = self._points(paths + tuning.plain_starts + tuning.donors)
        donors = points[-tuning.donors :]
        ascend = lambda x: best_on_paths(self.scores, x, make, self.rng)
        some = ascend(points[:paths])
        found = list(some.found)
        if some.best is not None:
            more = exchanged(self.scores, some.best, donors)
            found += [] if more is None else ascend(more[None]).found
        self.runs = [
            Start(None, -np.inf, why="no Gaussian on its path has a finite ELBO")
            if one is None
            else Start(one.gaussian, one.elbo, [-one.elbo])
            for one in found
        ]
        self._tell("paths")
        self._thin(self._varied(self._alive(self.runs)), tuning.followed)
        if not some.agree or len(found) > paths:
            self.runs += [self._plain(x) for x in points[paths : -tuning.donors]]
        for one in self._alive(self.runs):
            assert one.gaussian is not None
            one.gaussian = self.family.into(one.gaussian, self.rng)

    def _plain(self, x: np.ndarray) -> Start:
        """A start at x (d,), which first goes near the target's mass as a mean field: that
        takes a fraction of the draws of a round, and shows where it leads."""
        scale = self.tuning.plain_scale
        one = Start(MeanField(x, np.full(x.shape, scale), scale * np.eye(len(x))), -np.inf)
        self._improve(one, even_pairs(self.rng, enough_draws(0), len(x)), "plain start")
        q = one.gaussian
        if q is not None and not one.why:
            precision = np.diag(1 / np.diag(q.root) ** 2)
            one.gaussian = self.family.make(q.mean, np.zeros_like(x), precision)[0]
        return one

    def _rounds(self, live: list[Start]) -> list[Start]:
        """Rounds of L-BFGS on ever more draws; after each, fewer of the starts go on."""
        most = self.tuning.most_draws
        wanted = max((one.gaussian.draws for one in live if one.gaussian), default=enough_draws(0))
        for number in range(self.tuning.rounds):
            draws = min(wanted, most) << number
            if number and draws > most:
                break
            e = even_pairs(self.rng, draws, self.scores.dim)
            self._improve_all(live, e, f"round {number + 1}, {draws} draws")
            live = self._thin(self._ranked(self._alive(live)), self.tuning.carried)
        return live

    def _improve_all(self, live: list[Start], e: np.ndarray, what: str) -> None:
        """One round of every start, but of those on the way to where another has arrived."""
        shared = even_pairs(self.rng, self.tuning.ranking_draws, self.scores.dim)
        arrived: list[Start] = []
        for one in live:
            same = (other for other in arrived if self._same(one, other, self.tuning.alike, shared))
            one.merged_with = next(same, None)
            if one.merged_with is None:
                self._improve(one, e, what)
                arrived += self._alive([one])

    def _varied(self, runs: list[Start]) -> list[Start]:
        """Best first; those near a better one come after all others."""
        first: list[Start] = []
        ranked = sorted(runs, key=lambda run: -run.elbo)
        for one in ranked:
            if all(_apart(one, other) for other in first):
                first.append(one)
        return first + [one for one in ranked if one not in first]

    def _points(self, n: int) -> np.ndarray:
        return np.asarray(starting_points(self.target, self.key, n, self.scores), float)

    def _alive(self, runs: list[Start]) -> list[Start]:
        return [one for one in runs if not one.why and one.merged_with is None]

    def _improve(self, one: Start, e: np.ndarray, what: str) -> None:
        """One round: L-BFGS on the fixed draws e (n, d), from the Gaussian of `one`."""
        assert one.gaussian is not None
        q = _settled(self.scores, one.gaussian, e)
        if q is None:
            one.why = "log p is not finite around it"
            return

        def objective(thetas: np.ndarray):
            results = [trial(self.scores, q, theta, e) for theta in thetas]
            return tuple(map(np.stack, zip(*results, strict=True)))

        tuning, memory = self.tuning, partial(Limited, self.tuning.memory)
        search = descend(np.zeros(q.size), memory, tuning.steps, tuning.small)
        (path,) = together([search], objective)
        one.gaussian, one.elbo = q.moved(path[-1].x), q.entropy - path[-1].value
        one.losses += [point.value - q.entropy for point in path[1:]]
        self._tell(f"{what}, loss {-one.elbo:.5g}")

    def _ranked(self, runs: list[Start]) -> list[Start]:
        """Best first, judged on draws that they share."""
        e = even_pairs(self.rng, self.tuning.ranking_draws, self.scores.dim)
        for one in runs:
            assert one.gaussian is not None
            one.elbo, one.log_ratios = elbo(self.scores, one.gaussian, e)
        return sorted(runs, key=lambda run: -run.elbo)

    def _thin(self, runs: list[Start], most: int) -> list[Start]:
        """The first `most` that differ; the others are merged with them or given up."""
        e = even_pairs(self.rng, self.tuning.ranking_draws, self.scores.dim)
        alike = self.tuning.alike
        kept: list[Start] = []
        for one in runs:
            known = next((other for other in kept if self._same(one, other, alike, e)), None)
            if known is not None:
                one.merged_with = known
            elif len(kept) == most:
                one.why = f"not followed: {words(most)} others promised more"
            else:
                kept.append(one)
        return kept

    def _same(self, one: Start, other: Start, nats: float, e: np.ndarray) -> bool:
        """Whether two starts are at one optimum, or on the way to the same one.

        They are if their symmetrised KL is less than `nats`, or if the ELBO, on the draws
        e (n, d), does not sag halfway between them. It sags between two modes.
        """
        p, q = one.gaussian, other.gaussian
        assert p is not None
        assert q is not None
        if jeffreys(p, q) < nats:
            return True
        ends = (elbo(self.scores, p, e)[1] + elbo(self.scores, q, e)[1]) / 2
        rise = _difference(elbo(self.scores, p.halfway(q), e)[1], ends)
        if len(rise) < (1 - LOST) * len(e):
            return False
        error = rise.std(ddof=1) / np.sqrt(len(rise))
        return bool(error < self.tuning.blurred and rise.mean() > -error)

    def _polish(self, one: Start) -> None:
        q = one.gaussian
        if isinstance(q, LowRank):
            self._once_more(one, q)
            return
        assert isinstance(q, FullRank | MeanField)
        q = self._reframed(q)
        tell = lambda step, loss: self._tell(f"polish step {step}, loss {loss:.5g}")
        done = polish(q, self.scores, self.rng, tell)
        one.losses += done.losses
        e = self.rng.standard_normal((self.tuning.checking_draws, len(q.mean)))
        gain, error = self._gain(done.gaussian, q, e)
        one.polished = done
        if gain > -min(1.0, max(ENOUGH, 2 * error)):
            one.gaussian = done.gaussian
        else:
            done.trouble = done.trouble or "the polish lost what the rounds had gained"

    def _reframed(self, q: FullRank | MeanField) -> FullRank | MeanField:
        """q, if mean field, in the frame of log p's average curvature, where that is known."""
        d = len(q.mean)
        if not isinstance(q, MeanField) or d > MOST_FULL:
            return q
        e = even_pairs(self.rng, enough_draws(8 * d), d)
        log_p, gradients = self.scores(q.points(e))
        return q.reframed(e, gradients) if np.isfinite(log_p).all() else q

    def _gain(self, new: Gaussian, old: Gaussian, e: np.ndarray) -> tuple[float, float]:
        """Gain in ELBO from `old` to `new` on the draws e (n, d), in nats, and its error."""
        gains = _difference(elbo(self.scores, new, e)[1], elbo(self.scores, old, e)[1])
        return gains.mean(), gains.std(ddof=1) / np.sqrt(len(gains))

    def _once_more(self, one: Start, q: LowRank) -> None:
        """A round on many draws, in place of the polish.

        The loss in ELBO from fitting n fixed draws falls as 1/n. So the gain over the fit on
        fewer of them, on fresh draws, tells how much the new one still lacks.
        """
        tuning, d = self.tuning, self.scores.dim
        seen = min(q.draws << (tuning.rounds - 1), tuning.most_draws)
        before = len(one.losses)
        self._improve(one, even_pairs(self.rng, tuning.last_draws, d), "last round")
        if one.why:
            return
        assert one.gaussian is not None
        e = self.rng.standard_normal((tuning.last_draws, d))
        gain, error = self._gain(one.gaussian, q, e)
        left = float(abs(gain) + error) / (tuning.last_draws / seen - 1)
        steps = one.losses[before:]
        moving = len(steps) >= tuning.steps
        name = "L-BFGS on fixed draws"
        one.polished = Polish(one.gaussian, steps, left, moving, steps_of=name)

    def _choose(self, runs: list[Start]) -> None:
        """The final ELBO of every start that was followed to its end, on draws that they share."""
        e = self.rng.standard_normal((self.tuning.choosing_draws, self.scores.dim))
        for one in runs:
            assert one.gaussian is not None
            one.log_ratios = elbo(self.scores, one.gaussian, e)[1]
            finite = np.isfinite(one.log_ratios)
            if finite.mean() < 1 - LOST:
                one.why = f"log p is not finite at {1 - finite.mean():.0%} of its draws"
            one.elbo = float(one.log_ratios[finite].mean()) if finite.any() else -np.inf
        self.ended = sorted((r for r in runs if not r.why), key=lambda run: -run.elbo)
        alike = lambda leader, one: self._same(one, leader, SAME_BASIN, e)
        for one, basin in zip(self.ended, grouped(self.ended, alike), strict=True):
            one.basin = basin

    # --- results ---------------------------------------------------------------------

    def _tell(self, what: str) -> None:
        self.done += 1
        self.progress(self.done, None, what)

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
            remedy=_remedy(best),
            left=_left(best),
        )

    def _cost(self) -> Cost:
        scores = self.scores
        return Cost(scores.compile_seconds, scores.densities, scores.gradients)


def _apart(one: Start, other: Start) -> bool:
    """Whether the Gaussians of two paths are worth following both."""
    a, b = one.gaussian, other.gaussian
    assert isinstance(a, FullRank | MeanField)
    assert isinstance(b, FullRank | MeanField)
    return apart(Found(a, one.elbo), Found(b, other.elbo))


def _row(one: Start) -> Restart:
    end = one.leader
    if end.why or end.basin is None:
        return Restart(None, None, None, end.why)
    finite = end.log_ratios[np.isfinite(end.log_ratios)]
    error = float(finite.std(ddof=1) / np.sqrt(len(finite)))
    return Restart(-end.elbo, error, end.basin, "finished")


def _message(runs: list[Start], ended: list[Start], best: Start) -> str:
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
        parts.append(f"log p is not finite at {holes} of {len(best.log_ratios)} draws of it")
    parts.append("a better optimum that no start reached cannot be excluded")
    return "; ".join(parts)


def _remedy(best: Start) -> str:
    if _holes(best):
        return "keep log p finite (a proper support for the site, or another parameterisation)"
    return "name the solver framed or svi, whose steps can be raised"


def _left(best: Start) -> Estimate | None:
    """What the natural gradients of the polish promise; a Gaussian of low rank had none."""
    if isinstance(best.gaussian, LowRank) or best.polished is None:
        return None
    left = _number(best.polished.left)
    return None if left is None else Estimate(left, 0.0, "nats")


def _gap(best: Start, other: Start) -> str:
    gaps = _difference(best.log_ratios, other.log_ratios)
    error = float(gaps.std(ddof=1) / np.sqrt(len(gaps)))
    if abs(gaps.mean()) < 2 * error:
        return f"as good within the error ({with_error(float(gaps.mean()), error)} nats worse)"
    return f"{plain(float(gaps.mean()))} nats worse"


def _holes(one: Start) -> int:
    """Number of the draws that decide at which log p is not finite."""
    return int((~np.isfinite(one.log_ratios)).sum())


def _difference(one: np.ndarray, other: np.ndarray) -> np.ndarray:
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
