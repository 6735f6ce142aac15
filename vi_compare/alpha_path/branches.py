"""The optimum of Amari's A_α as α goes from mode-seeking to mass-covering: its branches.

A branch is one local optimum followed from α to α (numerical continuation). Several may exist
side by side. Where the lowest of them changes, the best fit jumps, as in a first-order phase
transition; where an optimum ceases to be one, its branch ends.

1. Anchors: at a few α, searches from many starts; the distinct optima they end in.
2. Branches: from every anchor up and down, each step from the last one's optimum. A step that
   moves q too far is halved until it is certain that the optimum itself has gone. With draws,
   every end is looked for a second time with other draws.
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
from vi_compare.alpha_path.integration import DrawnRule, IntegrationRule, LineRule
from vi_compare.alpha_path.objective import AlphaObjective, Optimum
from vi_compare.evidence import Draws
from vi_compare.gaussian.frames import Frame, from_draws
from vi_compare.randomness import generator
from vi_compare.solvers import Progress, quiet
from vi_compare.solvers._stochastic import Begin, starts
from vi_compare.target import Target


@dataclass(frozen=True)
class PathEffort:
    """How thoroughly branches are looked for.

    Attributes:
        anchors: number of α at which searches start.
        rough: steps of a search, after which it is seen which starts are worth finishing.
        tried: optima of an anchor, the lowest ones, that are searched to the end.
        optima: optima of an anchor, the lowest ones, that are followed.
        branches: maximum number of branches; beyond them only optima lower than all of them
            are followed.
        tied: largest difference in A_α between two branches that are mirror images.
    """

    anchors: int = 5
    rough: int = 100
    tried: int = 6
    optima: int = 4
    branches: int = 10
    tied: float = 1e-6


@dataclass(frozen=True)
class Sizes:
    """Maximum number of draws of p, and of q, behind each of the `Rules`."""

    rough: int = 1500
    search: int = 6000
    measure: int = 8000


@dataclass(frozen=True)
class BranchEnd:
    """Where a branch begins or ends: at the edge of the range, or where the optimum is lost.

    Attributes:
        alpha: where.
        error: half of the interval in which it was lost; with draws, the distance to where
            other draws have it is added. None at the edge.
    """

    alpha: float
    error: float | None = None

    @property
    def how(self) -> str:
        return "edge" if self.error is None else "lost"


@dataclass
class OptimumBranch:
    """One optimum followed.

    Attributes:
        points: {index into the α's: optimum}.
        begin, end: where it exists.
        mirrored: the points of its mirror images, which have the same value everywhere.
        name: A, B, ... from small α to large, low to high.
    """

    points: dict[int, Optimum]
    begin: BranchEnd
    end: BranchEnd
    mirrored: list[dict[int, Optimum]] = field(default_factory=list)
    name: str = ""

    @property
    def images(self) -> int:
        """Number of optima that it stands for, itself included."""
        return 1 + len(self.mirrored)


@dataclass(frozen=True)
class Transition:
    """Where the lowest branch changes.

    Attributes:
        alpha, standard_error: where.
        below, above: names of the branches that are lowest on either side.
        jump: symmetrised KL between the two optima in nats; of mirror images, the nearest.
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
        rules: the integration rules of A_α.
        problem: A_α as a function of the guide's parameters.
        branches, transitions: what was found.
    """

    alphas: np.ndarray
    rules: Rules
    problem: AlphaObjective
    branches: list[OptimumBranch] = field(default_factory=list)
    transitions: list[Transition] = field(default_factory=list)

    def best(self, i: int) -> OptimumBranch | None:
        """The lowest branch at the i-th α."""
        alive = [b for b in self.branches if i in b.points]
        return min(alive, key=lambda b: b.points[i].value) if alive else None


@dataclass(frozen=True)
class Rules:
    """How A_α is summed: roughly, to see which starts are worth finishing; to search; and to
    measure what was found, on draws that the search has not seen."""

    rough: IntegrationRule
    search: IntegrationRule
    measure: IntegrationRule

    @classmethod
    def on_the_line(cls, target: Target, draws: Draws) -> Rules:
        rule = LineRule.around(target, draws)
        return cls(rule, rule, rule)

    @classmethod
    def drawn(
        cls,
        target: Target,
        seen: Draws,
        unseen: Draws,
        log_z: float,
        key: Array,
        parts: int,
        sizes: Sizes = Sizes(),
    ) -> Rules:
        """Rules by draws of the target, for a guide with `parts` components.

        Args:
            seen, unseen: disjoint draws: for the search, and to measure what it found.
            log_z: the target's log normaliser.
            key: of the draws of q.
        """

        def rule(draws: Draws, most: int, key: Array) -> DrawnRule:
            return DrawnRule.of(target, _every(draws, most), log_z, key, -(-most // parts))

        keys = jax.random.split(key, 3)
        return cls(
            rule(seen, sizes.rough, keys[0]),
            rule(seen, sizes.search, keys[1]),
            rule(unseen, sizes.measure, keys[2]),
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
    effort: PathEffort = PathEffort(),
) -> AlphaPath:
    """All branches of the guide's optimum between the first and the last of `alphas`.

    Args:
        target: to approximate.
        guide: set up.
        draws: of the target; the starts are placed by them.
        rules: the integration rules of A_α.
        alphas: (A,) ascending.
        key: of the starts.
        restarts: searches at each anchor.
        progress: told how it goes on.
        effort: how thoroughly branches are looked for.
    """
    problem, first = _problem(target, guide, draws, key, restarts)
    search = _Search(problem, rules, np.asarray(alphas, float), progress, effort)
    found = AlphaPath(search.alphas, rules, problem)
    found.branches = search.branches(search.anchors(first))
    if rules.search is not rules.measure:
        for branch in found.branches:
            search.with_other_draws(branch)
    found.transitions = search.transitions(found)
    return found


def _problem(
    target: Target, guide: Callable, draws: Draws, key: Array, restarts: int
) -> tuple[AlphaObjective, list[np.ndarray]]:
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
    problem = AlphaObjective(target, guide, each[0], place)
    return problem, [problem.theta(params) for params in each]


class _Search:
    """The stages, over one problem."""

    def __init__(
        self,
        problem: AlphaObjective,
        rules: Rules,
        alphas: np.ndarray,
        progress: Progress,
        effort: PathEffort,
    ):
        self.problem, self.rules, self.alphas, self.effort = problem, rules, alphas, effort
        places = np.linspace(0, len(alphas) - 1, min(effort.anchors, len(alphas)))
        self.at = sorted({round(x) for x in places})
        self.progress, self.done = progress, 0

    def tell(self, words: str) -> None:
        self.done += 1
        self.progress(self.done, None, words)

    # --- anchors ---------------------------------------------------------------------------

    def anchors(self, first: Sequence[np.ndarray]) -> dict[int, list[Optimum]]:
        """{index of α: distinct optima there, the lowest first}."""
        out, rough = {}, self.rules.rough
        for i in self.at:
            found = []
            for theta in first:
                one = self.problem.minimised(theta, self.alphas[i], rough, rough, self.effort.rough)
                found += [one] if one else []
                self.tell(f"searching at α = {self.alphas[i]:.3g}")
            few = self._distinct(found, rough.farthest)[: self.effort.tried]
            finished = [self._minimised(one.theta, self.alphas[i]) for one in few]
            known = [one for one in finished if one]
            out[i] = self._distinct(known, self.rules.search.same)[: self.effort.optima]
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

    def branches(self, anchors: dict[int, list[Optimum]]) -> list[OptimumBranch]:
        """Every anchor followed both ways, unless it lies on a branch already; and where one is
        lost, what the search falls into."""
        found: list[OptimumBranch] = []
        ranked = [(rank, i) for i, optima in anchors.items() for rank in range(len(optima))]
        todo = [(i, anchors[i][rank]) for rank, i in sorted(ranked)]  # the lowest of all first
        while todo:
            i, one = todo.pop(0)
            there = [branch.points[i] for branch in found if i in branch.points]
            if any(self._apart(one, other) < self.rules.search.same for other in there):
                continue
            lowest = min((other.value for other in there), default=np.inf)
            if len(found) >= self.effort.branches and one.value > lowest:
                continue
            branch = OptimumBranch({i: one}, BranchEnd(self.alphas[i]), BranchEnd(self.alphas[i]))
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

    def with_other_draws(self, branch: OptimumBranch) -> None:
        """Widen the errors of a branch's ends to how far off other draws have them."""
        swapped = replace(self.rules, search=self.rules.measure, measure=self.rules.search)
        other = _Search(self.problem, swapped, self.alphas, self.progress, self.effort)
        branch.begin = self._widened(other, branch, branch.begin, min(branch.points), -1)
        branch.end = self._widened(other, branch, branch.end, max(branch.points), +1)

    def _widened(
        self, other: _Search, branch: OptimumBranch, end: BranchEnd, i: int, way: int
    ) -> BranchEnd:
        """The same end, which is beyond the i-th α, with its distance to the end that the
        `other` search finds added to its error."""
        if end.error is None:
            return end
        start = other._minimised(branch.points[i].theta, self.alphas[i])
        if start is None:
            return end
        self.tell(f"looking again for an end near α = {end.alpha:.3g}")
        again, _ = other._walk({i: start}, i, way)
        off = abs(again.alpha - end.alpha) / np.sqrt(2)  # each is off by one error
        return BranchEnd(end.alpha, float(np.hypot(end.error, off)))

    def _walk(
        self, points: dict[int, Optimum], i: int, way: int
    ) -> tuple[BranchEnd, list[tuple[int, Optimum]]]:
        """Follow from the i-th α and fill `points`.

        Returns:
            Where the branch ends; and, if the optimum is lost there, the optimum at the next
            α that the search falls into.
        """
        while 0 <= i + way < len(self.alphas):
            a, b = self.alphas[i], self.alphas[i + way]
            new, lost = self._step(points[i], a, b)
            if new is None:
                other = self._minimised(points[i].theta, b)
                return lost, [(i + way, other)] if other else []
            i += way
            points[i] = new
            self.tell(f"following an optimum, α = {b:.3g}")
        return BranchEnd(float(self.alphas[i])), []

    def _step(self, one: Optimum, a: float, b: float) -> tuple[Optimum | None, BranchEnd]:
        """The same optimum at b, or None and where between it was lost.

        A step that moves q farther than the rule allows is halved, down to the rule's finest:
        an optimum that goes on moves less, one that is gone does not.
        """
        new = self._minimised(one.theta, b)
        if new and self._apart(one, new) < self.rules.search.farthest:
            return new, BranchEnd(b)
        if abs(b - a) < self.rules.search.finest:
            return None, BranchEnd(float(a + b) / 2, float(abs(b - a) / 2))
        middle, lost = self._step(one, a, (a + b) / 2)
        return (None, lost) if middle is None else self._step(middle, (a + b) / 2, b)

    def _without_images(self, found: list[OptimumBranch]) -> list[OptimumBranch]:
        """One branch for all that have the same value everywhere: mirror images."""
        kept: list[OptimumBranch] = []
        for branch in found:
            twin = next((one for one in kept if self._tied(one, branch)), None)
            if twin is None:
                kept.append(branch)
            else:
                twin.mirrored.append(branch.points)
        return kept

    def _tied(self, one: OptimumBranch, other: OptimumBranch) -> bool:
        shared = one.points.keys() & other.points.keys()
        if len(shared) < 0.9 * max(len(one.points), len(other.points)):
            return False
        return all(
            abs(one.points[i].value - other.points[i].value) < self.effort.tied for i in shared
        )

    def _difference(self, one: Optimum, other: Optimum, alpha: float) -> tuple[float, float]:
        """A_α of one minus that of the other, and its standard error."""
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

    def _at_an_end(
        self, end: BranchEnd, low: OptimumBranch, high: OptimumBranch, i: int
    ) -> Transition:
        """One branch is the lowest up to where it ends, or from where it begins."""
        jump = min(self._apart(low.points[i], x[i + 1]) for x in _images(high) if i + 1 in x)
        return Transition(end.alpha, end.error or 0.0, low.name, high.name, jump)

    def _crossing(self, low: OptimumBranch, high: OptimumBranch, i: int) -> Transition:
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


def _images(branch: OptimumBranch) -> list[dict[int, Optimum]]:
    return [branch.points, *branch.mirrored]


def _every(draws: Draws, n: int) -> Draws:
    """At most n of the draws, each chain thinned."""
    return draws.every(-(-len(draws) // n))
