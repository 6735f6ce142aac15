"""The optimum of Amari's A_α as α goes from mode-seeking to mass-covering: its branches.

A branch is one local optimum followed from α to α. Several may exist side by side; where the
lowest of them changes, the best fit jumps, as in a first-order phase transition; where an optimum
ceases to be one, its branch ends.

1. Anchors: at a few α, searches from many starts; the distinct optima they end in.
2. Branches: from every anchor up and down, each step from the last one's optimum; a step after
   which q is another one is halved until it is certain that the optimum itself has gone. With
   draws, every end is looked for a second time with other draws.
3. Transitions: where two branches cross, by root finding on their difference.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import jax
import numpy as np
from jax import Array
from scipy.optimize import brentq

from vi_compare import families
from vi_compare.alpha_path.integration import Drawn, Line, Rule
from vi_compare.alpha_path.objective import Objective, Optimum
from vi_compare.evidence import Draws
from vi_compare.gaussian.frames import Frame, from_draws
from vi_compare.randomness import generator
from vi_compare.solvers import Progress, quiet
from vi_compare.solvers._stochastic import Begin, starts
from vi_compare.target import Target

ANCHORS = 5
# Steps of a search before it is seen which starts are worth finishing; and draws of p, at most,
# and of q for that, for the search itself, and for what is said of it.
ROUGH, ROUGH_DRAWS, DRAWS, MEASURED = 100, 1500, 6000, 8000
MOST_OPTIMA, TRIED = 4, 6  # of each anchor: the lowest, and how many are searched to the end
MOST_BRANCHES = 10  # beyond them only what is lower than any of them is followed
TIED = 1e-6  # A_α of two branches that are one, mirrored


@dataclass(frozen=True)
class End:
    """Where a branch begins or ends: at the edge of the range, or where the optimum is lost.

    Attributes:
        alpha: there.
        error: half of the interval in which it was lost, with draws also how far off other
            draws have it; None at the edge.
    """

    alpha: float
    error: float | None = None

    @property
    def how(self) -> str:
        return "edge" if self.error is None else "lost"


@dataclass
class Branch:
    """One optimum followed.

    Attributes:
        points: {index into the α's: optimum}.
        begin, end: where it exists.
        mirrored: the points of others that have the same value everywhere, its mirror images.
        name: A, B, ... from small α to large, low to high.
    """

    points: dict[int, Optimum]
    begin: End
    end: End
    mirrored: list[dict[int, Optimum]] = field(default_factory=list)
    name: str = ""

    @property
    def images(self) -> int:
        """How many optima it stands for."""
        return 1 + len(self.mirrored)


@dataclass(frozen=True)
class Transition:
    """Where the lowest branch changes.

    Attributes:
        alpha, standard_error: there.
        below, above: names of the branches that are lowest on either side.
        jump: symmetrised KL between the two optima in nats, the nearest ones of mirror images.
    """

    alpha: float
    standard_error: float
    below: str
    above: str
    jump: float


@dataclass
class AlphaPath:
    """What was found.

    Attributes:
        alphas: (A,) ascending.
        rules: by which A_α was summed.
        problem: turns parameters into q's.
        branches, transitions: see there.
    """

    alphas: np.ndarray
    rules: Rules
    problem: Objective
    branches: list[Branch] = field(default_factory=list)
    transitions: list[Transition] = field(default_factory=list)

    def best(self, i: int) -> Branch | None:
        """The lowest branch at the i-th α."""
        alive = [b for b in self.branches if i in b.points]
        return min(alive, key=lambda b: b.points[i].value) if alive else None


@dataclass(frozen=True)
class Rules:
    """How A_α is summed: roughly, to see which starts are worth finishing; to search; and to
    measure what was found, on draws that the search has not seen."""

    rough: Rule
    search: Rule
    measure: Rule

    @classmethod
    def on_the_line(cls, target: Target, draws: Draws) -> Rules:
        rule = Line.around(target, draws)
        return cls(rule, rule, rule)

    @classmethod
    def drawn(
        cls, target: Target, seen: Draws, unseen: Draws, log_z: float, key: Array, parts: int
    ) -> Rules:
        """`seen` and `unseen` draws of the target, for a guide of so many parts."""

        def rule(draws: Draws, most: int, key: Array) -> Drawn:
            return Drawn.of(target, _every(draws, most), log_z, key, -(-most // parts))

        keys = jax.random.split(key, 3)
        return cls(
            rule(seen, ROUGH_DRAWS, keys[0]),
            rule(seen, DRAWS, keys[1]),
            rule(unseen, MEASURED, keys[2]),
        )


def follow(
    target: Target,
    guide: Callable,
    draws: Draws,
    rules: Rules,
    alphas: np.ndarray,
    key: Array,
    restarts: int,
    progress: Progress = quiet,
) -> AlphaPath:
    """All branches of the guide's optimum between the first and the last of `alphas`.

    Args:
        target: to approximate.
        guide: set up.
        draws: of the target, which the starts are placed by.
        rules: by which A_α is summed.
        alphas: (A,) ascending.
        key: of the starts.
        restarts: searches at each anchor.
        progress: told how it goes on.
    """
    problem, first = _problem(target, guide, draws, key, restarts)
    search = _Search(problem, rules, np.asarray(alphas, float), progress)
    found = AlphaPath(search.alphas, rules, problem)
    found.branches = search.branches(search.anchors(first))
    if rules.search is not rules.measure:
        for branch in found.branches:
            search.with_other_draws(branch)
    found.transitions = search.transitions(found)
    return found


def _problem(
    target: Target, guide: Callable, draws: Draws, key: Array, restarts: int
) -> tuple[Objective, list[np.ndarray]]:
    """The problem in the frame of the draws' moments, and places (P,) to begin at."""
    family = families.family(guide)
    frames = from_draws(draws.u).frames if family.can_be_framed else ()
    frame = frames[0] if frames else Frame.identity(target.dim)
    place = lambda params: family.in_frame(params, target, frame) if frames else params

    def points(key: Array, n: int, each: int) -> np.ndarray:
        rows = generator(key).integers(len(draws), size=n * each)
        some = frame.into(np.asarray(draws.u)[rows])
        return some.reshape(n, each, target.dim)

    shape = lambda params: family.shaped(params, target, frame) if frames else params
    made = starts(target, guide, key, restarts, Begin(points, shape=shape))
    each = [jax.tree.map(lambda leaf, r=r: leaf[r], made) for r in range(restarts)]
    problem = Objective(target, guide, each[0], place)
    return problem, [problem.theta(params) for params in each]


class _Search:
    """The stages, over one problem."""

    def __init__(self, problem: Objective, rules: Rules, alphas: np.ndarray, progress: Progress):
        self.problem, self.rules, self.alphas = problem, rules, alphas
        places = np.linspace(0, len(alphas) - 1, min(ANCHORS, len(alphas)))
        self.at = sorted({round(x) for x in places})
        self.progress, self.done, self.expected = progress, 0, 0

    def tell(self, words: str) -> None:
        self.done += 1
        self.progress(self.done, max(self.done + 1, self.expected), words)

    # --- anchors ---------------------------------------------------------------------------

    def anchors(self, first: Sequence[np.ndarray]) -> dict[int, list[Optimum]]:
        """{index of α: distinct optima there, the lowest first}."""
        out, rough = {}, self.rules.rough
        # Nobody knows how many branches there are; as many as an anchor keeps is a fair guess.
        self.expected = len(self.at) * len(first) + MOST_OPTIMA * len(self.alphas)
        for i in self.at:
            found = []
            for theta in first:
                one = self.problem.minimised(theta, self.alphas[i], rough, rough, ROUGH)
                found += [one] if one else []
                self.tell(f"searching at α = {self.alphas[i]:.3g}")
            few = self._distinct(found, rough.farthest)[:TRIED]
            finished = [self._minimised(one.theta, self.alphas[i]) for one in few]
            known = [one for one in finished if one]
            out[i] = self._distinct(known, self.rules.search.same)[:MOST_OPTIMA]
        return out

    def _minimised(self, theta: np.ndarray, alpha: float) -> Optimum | None:
        return self.problem.minimised(theta, alpha, self.rules.search, self.rules.measure)

    def _apart(self, one: Optimum, other: Optimum) -> float:
        return self.problem.apart(one, other, self.rules.measure)

    def _distinct(self, optima: Sequence[Optimum], same: float) -> list[Optimum]:
        """One of each, the lowest first."""
        kept: list[Optimum] = []
        for one in sorted(optima, key=lambda o: o.value):
            if all(self._apart(one, other) >= same for other in kept):
                kept.append(one)
        return kept

    # --- branches --------------------------------------------------------------------------

    def branches(self, anchors: dict[int, list[Optimum]]) -> list[Branch]:
        """Every anchor followed both ways, unless it lies on a branch already; and where one is
        lost, what the search falls into."""
        found: list[Branch] = []
        ranked = [(rank, i) for i, optima in anchors.items() for rank in range(len(optima))]
        todo = [(i, anchors[i][rank]) for rank, i in sorted(ranked)]  # the lowest of all first
        while todo:
            i, one = todo.pop(0)
            there = [branch.points[i] for branch in found if i in branch.points]
            if any(self._apart(one, other) < self.rules.search.same for other in there):
                continue
            lowest = min((other.value for other in there), default=np.inf)
            if len(found) >= MOST_BRANCHES and one.value > lowest:
                continue
            branch = Branch({i: one}, End(self.alphas[i]), End(self.alphas[i]))
            branch.begin, below = self._walk(branch.points, i, -1)
            branch.end, above = self._walk(branch.points, i, +1)
            todo += below + above
            if len(branch.points) > 1 or "edge" in (branch.begin.how, branch.end.how):
                found.append(branch)  # else it was no optimum, but a search that had not ended
        found = self._without_images(found)
        found.sort(key=lambda b: (b.begin.alpha, b.points[min(b.points)].value))
        for number, branch in enumerate(found):
            branch.name = chr(ord("A") + number) if number < 26 else f"{number + 1}"
        return found

    def with_other_draws(self, branch: Branch) -> None:
        """Widen the errors of a branch's ends to how far off other draws have them."""
        swapped = replace(self.rules, search=self.rules.measure, measure=self.rules.search)
        other = _Search(self.problem, swapped, self.alphas, self.progress)
        for name, i, way in (("begin", min(branch.points), -1), ("end", max(branch.points), +1)):
            end = getattr(branch, name)
            if end.error is None:
                continue
            start = other._minimised(branch.points[i].theta, self.alphas[i])
            if start is None:
                continue
            self.tell(f"looking again for an end near α = {end.alpha:.3g}")
            again, _ = other._walk({i: start}, i, way)
            off = abs(again.alpha - end.alpha) / np.sqrt(2)  # each is off by one error
            setattr(branch, name, End(end.alpha, float(np.hypot(end.error, off))))

    def _walk(
        self, points: dict[int, Optimum], i: int, way: int
    ) -> tuple[End, list[tuple[int, Optimum]]]:
        """Follow from the i-th α and fill `points`; where it ends, and, if it is lost, the
        optimum at the next α that the search falls into."""
        while 0 <= i + way < len(self.alphas):
            a, b = self.alphas[i], self.alphas[i + way]
            new, lost = self._step(points[i], a, b)
            if new is None:
                other = self._minimised(points[i].theta, b)
                return lost, [(i + way, other)] if other else []
            i += way
            points[i] = new
            self.tell(f"following an optimum, α = {b:.3g}")
        return End(float(self.alphas[i])), []

    def _step(self, one: Optimum, a: float, b: float) -> tuple[Optimum | None, End]:
        """The same optimum at b, or None and where between it was lost.

        A step that moves q farther than the rule allows is halved, down to the rule's finest:
        an optimum that goes on moves less, one that is gone does not.
        """
        new = self._minimised(one.theta, b)
        if new and self._apart(one, new) < self.rules.search.farthest:
            return new, End(b)
        if abs(b - a) < self.rules.search.finest:
            return None, End(float(a + b) / 2, float(abs(b - a) / 2))
        middle, lost = self._step(one, a, (a + b) / 2)
        return (None, lost) if middle is None else self._step(middle, (a + b) / 2, b)

    def _without_images(self, found: list[Branch]) -> list[Branch]:
        """One branch for all that have the same value everywhere: mirror images."""
        kept: list[Branch] = []
        for branch in found:
            twin = next((one for one in kept if self._tied(one, branch)), None)
            if twin is None:
                kept.append(branch)
            else:
                twin.mirrored.append(branch.points)
        return kept

    def _tied(self, one: Branch, other: Branch) -> bool:
        shared = one.points.keys() & other.points.keys()
        if len(shared) < 0.9 * max(len(one.points), len(other.points)):
            return False
        return all(abs(one.points[i].value - other.points[i].value) < TIED for i in shared)

    def _difference(self, one: Optimum, other: Optimum, alpha: float) -> tuple[float, float]:
        """A_α of one less that of the other, and its standard error."""
        rule = self.rules.measure
        terms = np.subtract(*(self.problem.terms(x.theta, alpha, rule) for x in (one, other)))
        return float(terms.sum()), rule.error(terms)

    # --- transitions -----------------------------------------------------------------------

    def transitions(self, path: AlphaPath) -> list[Transition]:
        """Where the lowest branch changes from one α to the next."""
        out = []
        for i in range(len(self.alphas) - 1):
            low, high = path.best(i), path.best(i + 1)
            if low is None or high is None or low is high:
                continue
            if i + 1 not in low.points:
                out.append(self._at_an_end(low.end, low, high, i))
            elif i not in high.points:
                out.append(self._at_an_end(high.begin, low, high, i))
            else:
                out.append(self._crossing(low, high, i))
        return out

    def _at_an_end(self, end: End, low: Branch, high: Branch, i: int) -> Transition:
        """One branch is the lowest up to where it ends, or from where it begins."""
        jump = min(self._apart(low.points[i], x[i + 1]) for x in _images(high) if i + 1 in x)
        return Transition(end.alpha, end.error or 0.0, low.name, high.name, jump)

    def _crossing(self, low: Branch, high: Branch, i: int) -> Transition:
        """Between the i-th α and the next, where both branches exist."""
        ends = self.alphas[i], self.alphas[i + 1]

        def at(points: dict[int, Optimum], alpha: float) -> Optimum:
            j = i if alpha - ends[0] < ends[1] - alpha else i + 1
            if alpha == self.alphas[j]:
                return points[j]
            return self._minimised(points[j].theta, alpha) or points[j]

        def gap(alpha: float) -> float:
            return at(low.points, alpha).value - at(high.points, alpha).value

        steepness = (gap(ends[1]) - gap(ends[0])) / (ends[1] - ends[0])
        alpha = brentq(gap, *ends, xtol=1e-6)
        one, other = at(low.points, alpha), at(high.points, alpha)
        error = self._difference(one, other, alpha)[1] / abs(steepness)
        there = [x for x in _images(high) if {i, i + 1} <= x.keys()]
        jump = min(self._apart(one, at(x, alpha)) for x in there)
        return Transition(float(alpha), float(error + 1e-6), low.name, high.name, jump)


def _images(branch: Branch) -> list[dict[int, Optimum]]:
    return [branch.points, *branch.mirrored]


def _every(draws: Draws, n: int) -> Draws:
    """At most n of the draws: every so many-th of each chain."""
    step = -(-len(draws) // n)
    rows = np.arange(len(draws)).reshape(max(1, draws.chains), -1)[:, ::step].reshape(-1)
    return draws[rows]
