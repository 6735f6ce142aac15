"""Mixtures of Gaussians or Student t under reverse KL by natural gradients, with nothing to set.

1. Places: Gaussians around the modes that ascents find (reference/places.py).
2. Mixtures: grown from the best single component, component by component, where q falls short
   (gaussian/mixture_search.py); grown from components at the best places; the first one with two
   components more, less the two that it misses least; others from components scattered over the
   places; and the components of all of these together, thinned.
3. Rest: the best, and another that is nearly as good, go on until the noise left is small.

Each step needs draws of every component and products of small matrices. Nothing is compiled but
log p and its gradient.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np
from jax.flatten_util import ravel_pytree

from vi_compare import catalogue, families
from vi_compare.approximation import GuideApproximation
from vi_compare.divergences.reverse_kl import ReverseKL
from vi_compare.errors import InputError
from vi_compare.estimate import Estimate
from vi_compare.formatting import count, plain
from vi_compare.gaussian.frames import Frame
from vi_compare.gaussian.gaussians import MOST_FULL
from vi_compare.gaussian.mixture_search import MixtureSearch, MixtureTuning, Rest
from vi_compare.gaussian.mixture_steps import left, look, mean_of_finite
from vi_compare.gaussian.mixtures import Mixtures
from vi_compare.randomness import generator, split
from vi_compare.reference.places import PlaceSearch, find_places
from vi_compare.scores import Scores
from vi_compare.solvers import Cost, Expected, Fit, Problem, Restart
from vi_compare.solvers._restarts import SAME_BASIN, grouped, side_by_side
from vi_compare.target import Target
from vi_compare.target.work import afforded
from vi_compare.verdict import Status


def suits(guide: Callable, divergence) -> int | None:
    """Mixtures of Gaussians or Student t under reverse KL; not where one form of its gradient is
    asked for."""
    plain_form = isinstance(divergence, ReverseKL) and not (divergence.stl or divergence.score)
    return 3 if plain_form and families.family(guide).kernel is not None else None


def build(most: int = 64, worth: float = 0.01) -> NaturalGradientVI:
    """Natural gradients of all components, grown until one gains less than `worth` nats."""
    if most < 1:
        raise InputError(f"natural-gradient: most must be positive, got {most}")
    if worth < 0:
        raise InputError(f"natural-gradient: worth must not be negative, got {worth:g}")
    return NaturalGradientVI(most, Extent(worth=worth))


@dataclass(frozen=True)
class Extent:
    """How far a search goes.

    Attributes:
        worth: nats that a component must gain, where their number is for the solver to find.
        in_vain: rounds of additions in a row that gain less.
        scattered_steps: steps of mixtures that begin at places chosen at random.
        operations: of log p and log q that these may take, a second or so of one core.
        place_operations: the same for the ascents to modes.
        spare: components that a mixture is grown by before it is thinned.
        judging: draws of each component on which mixtures are compared.
        near: nats below the best at which another mixture is brought to rest, too.
        parameters: maximum number for the covariance of their errors, a dense matrix.
        few: parameters up to which whoever runs the solver is to ask what is left to gain, in all
            directions together; natural gradients, which are of each component by itself, promise
            too little where a target is far from quadratic, and are what can be afforded beyond.
        pooled: mixtures whose components are put together.
    """

    worth: float = 0.01
    in_vain: int = 2
    scattered_steps: int = 40
    operations: float = 1e9
    place_operations: float = 3e10
    spare: int = 2
    judging: int = 512
    near: float = 0.01
    parameters: int = 500
    few: int = 300
    pooled: int = 3


@dataclass(eq=False)
class Candidate:
    """One mixture on its way.

    Attributes:
        mixture: as it is now, one row.
        losses: −ELBO in nats, one for each step.
        elbos: the same with the other sign on draws that all candidates share, (n,), one for each
            of the draws with its components.
        rest: how it was brought to rest; None where another was better.
        left: nats that its natural gradients promise on those draws.
    """

    mixture: Mixtures
    losses: np.ndarray
    elbos: np.ndarray = field(default_factory=lambda: np.zeros(0))
    rest: Rest | None = None
    left: float = np.inf

    @property
    def elbo(self) -> float:
        return float(self.elbos.mean())

    @property
    def error(self) -> float:
        return float(self.elbos.std(ddof=1) / np.sqrt(len(self.elbos)))


@dataclass(frozen=True)
class NaturalGradientVI:
    """See the module.

    Attributes:
        most: components at most where their number is for the solver to find.
        extent, tuning: the rest.
    """

    most: int
    extent: Extent = Extent()
    tuning: MixtureTuning = field(default_factory=MixtureTuning)

    def expected(self, problem: Problem) -> Expected:
        """As fits of the gallery take, from 1 to 60 dimensions."""
        if problem.target.subsampled or problem.target.dim > MOST_FULL:
            return _otherwise().expected(problem)
        family, dim = families.family(problem.guide), problem.target.dim
        k = 20 if family.grows else family.num_components
        draws = max(64, 4 * dim)
        steps = k * (self.tuning.own * self.tuning.candidates + 60 + self.tuning.joint * k)
        return Expected(15_000 + 2.0 * draws * steps, seconds=1)

    def solve(self, problem: Problem) -> Fit:
        """The best mixture that was found; by SVI in a Gaussian's frame for minibatches, above
        `MOST_FULL` dimensions, and where no Gaussian is finite."""
        target = problem.target
        if target.subsampled or target.dim > MOST_FULL:
            return _by_steps(problem)
        place_key, search_key = split(problem.key, 2)
        problem.progress(0, None, "ascents to modes")
        places = find_places(target, place_key, self._place_search(target))
        if not places.frames:
            return _by_steps(problem)
        scores = Scores(target)
        search = self._search(problem, scores, generator(search_key), places.frames)
        with np.errstate(all="ignore"):  # far draws of a trial may overflow
            fit = _Course(problem, search, self).run()
        spent = Cost(scores.compile_seconds, places.gradients, places.gradients)
        return replace(fit, cost=fit.cost + spent)

    def _search(
        self,
        problem: Problem,
        scores: Scores,
        rng: np.random.Generator,
        frames: tuple[Frame, ...],
    ) -> MixtureSearch:
        family = families.family(problem.guide)
        assert family.kernel is not None
        diagonal = family.diagonal_components
        return MixtureSearch(scores, rng, frames, diagonal, self.tuning, family.kernel)

    def _place_search(self, target: Target) -> PlaceSearch:
        search = PlaceSearch()
        all_of_it = search.gradients * target.operations
        return search if all_of_it <= self.extent.place_operations else replace(search, rounds=0)


def _first(moved: tuple[Mixtures, np.ndarray]) -> tuple[Mixtures, np.ndarray]:
    """A single mixture and its losses (steps,)."""
    mixture, losses = moved
    return mixture, losses.reshape(len(losses), -1)[:, 0]


def _otherwise():
    return catalogue.load("solvers", "framed").build()


def _by_steps(problem: Problem) -> Fit:
    if families.family(problem.guide).grows:
        raise InputError(
            "the number of components is found on a density that is the same at each look, in at "
            f"most {MOST_FULL} dimensions; say how many components to take"
        )
    return _otherwise().solve(problem)


class _Course:
    """One fit from its places to the choice among mixtures."""

    def __init__(self, problem: Problem, search: MixtureSearch, solver: NaturalGradientVI):
        self.problem, self.search, self.solver = problem, search, solver
        self.extent, self.family = solver.extent, families.family(problem.guide)
        self.shared = search.even(solver.extent.judging)
        self.done, self.why = 0, ""

    def run(self) -> Fit:
        found = self._sized() if self.family.grows else self._of(self.family.num_components)
        self._compare(found)
        found = [one for one in found if np.isfinite(one.elbo)] or found
        ranked = sorted(found, key=lambda one: -one.elbo)
        best = self._rested(ranked)
        return self._fit(found, best)

    # --- how many components there are ---------------------------------------------------

    def _of(self, components: int) -> list[Candidate]:
        search, tell = self.search, self._tell
        single, begun = search.single()
        grown, more = search.grown(single, components, tell)
        found = [Candidate(grown, np.concatenate([begun, more]))]
        restarts = self.problem.restarts
        if components > 1 and restarts > 1:
            found.append(self._exchanged(found[0]))
        if components > 1 and search.places.size > 1 and restarts > len(found):
            begin, some = _first(
                search.moved(search.at_places(components), 2 * search.tuning.joint)
            )
            grown, more = search.grown(begin, components, tell)
            found.append(Candidate(grown, np.concatenate([some, more])))
        if wanted := self._affordable(components, restarts - len(found)):
            found += self._scattered(components, wanted)
            found.append(self._pooled(found, components))
        return found

    def _exchanged(self, one: Candidate) -> Candidate:
        """With components elsewhere: some more, less those that are missed least."""
        components = one.mixture.size
        more, rising = self.search.grown(one.mixture, components + self.extent.spare, self._tell)
        fewer, falling = self.search.thinned(more, components, self._tell)
        return Candidate(fewer, np.concatenate([one.losses, rising, falling]))

    def _affordable(self, components: int, wanted: int) -> int:
        """How many mixtures can begin at places chosen at random."""
        points = self.extent.scattered_steps * components * self.search.draws
        density = 4 * components * self.search.scores.dim**2  # and its gradient
        each = points * (self.problem.target.operations + density)
        return afforded(self.extent.operations, each, 0, max(0, wanted)) if components > 1 else 0

    def _scattered(self, components: int, rows: int) -> list[Candidate]:
        begin = self.search.scattered(rows, components)
        moved, losses = self.search.moved(begin, self.extent.scattered_steps)
        self._tell(f"{rows} more starts, loss {losses[-1].min():.5g}")
        return [Candidate(moved.rows([r]), losses[:, r]) for r in range(rows)]

    def _pooled(self, found: list[Candidate], components: int) -> Candidate:
        """The components of the best few together, thinned."""
        self._compare(found)
        few = sorted(found, key=lambda one: -one.elbo)[: self.extent.pooled]
        all_of_them = few[0].mixture
        for i, one in enumerate(few[1:], 2):
            all_of_them = all_of_them.joined(one.mixture, 1 / i)
        begin, some = _first(self.search.moved(all_of_them, self.search.tuning.joint))
        thinned, more = self.search.thinned(begin, components, self._tell)
        return Candidate(thinned, np.concatenate([some, more]))

    def _sized(self) -> list[Candidate]:
        """Components until the next ones are not worth it."""
        search, most = self.search, self.solver.most
        found = [Candidate(*_first(search.single()))]
        if search.places.size > 1:
            begin = search.at_places(most)
            found.append(Candidate(*_first(search.moved(begin, 2 * search.tuning.joint))))
        self._compare(found)
        first = max(range(len(found)), key=lambda i: found[i].elbo)
        kept = last = found[first]
        vain = 0
        while vain < self.extent.in_vain and last.mixture.size < most:
            last = self._larger(last)
            gain = self._gain_of_each(last, kept)
            if gain <= self.extent.worth:  # perhaps it has not settled
                last = self._further(last)
                gain = self._gain_of_each(last, kept)
            vain = 0 if gain > self.extent.worth else vain + 1
            kept = kept if vain else last
            self.why = f"the next gained {plain(max(gain, 1e-4), 1)} nats each"
        if not vain and kept.mixture.size >= most:
            self.why = f"there are to be no more than {most}"
        found[first] = kept
        return found

    def _larger(self, one: Candidate) -> Candidate:
        more, losses = self.search.larger(one.mixture, self.solver.most, self._tell)
        return Candidate(more, np.concatenate([one.losses, losses]))

    def _further(self, one: Candidate) -> Candidate:
        moved, losses = self.search.moved(one.mixture, 2 * self.search.tuning.joint)
        return Candidate(moved, np.concatenate([one.losses, losses[:, 0]]))

    def _gain_of_each(self, more: Candidate, fewer: Candidate) -> float:
        """Nats that each of the components gained that `fewer` has not."""
        self._compare([more])
        return (more.elbo - fewer.elbo) / (more.mixture.size - fewer.mixture.size)

    # --- which is best -------------------------------------------------------------------

    def _compare(self, found: list[Candidate]) -> None:
        for one in found:
            if not len(one.elbos):
                seen = look(one.mixture, self.search.scores, self.shared, self.search.diagonal)
                one.left = float(left(one.mixture, seen)[0])
                ratios = seen.log_ratios[0]
                fine = np.isfinite(ratios).all(axis=0)
                each = one.mixture.weights[0] @ np.where(fine, ratios, 0.0)
                one.elbos = each[fine] if fine.mean() > 0.5 else np.full(2, -np.inf)

    def _rested(self, ranked: list[Candidate]) -> Candidate:
        """The best at rest, of those that may be the best."""
        basins = self._basins(ranked)
        others = [
            one
            for one, basin in zip(ranked, basins, strict=True)
            if basin == 1 and one.elbo > ranked[0].elbo - self.extent.near
        ]
        few = [ranked[0], *others[:1]]
        for one in few:
            one.rest = self.search.brought_to_rest(one.mixture, self._tell)
            one.losses = np.concatenate([one.losses, one.rest.losses])
            before, one.mixture, one.elbos = one.elbo, one.rest.mixture, np.zeros(0)
            self._compare([one])
            if not one.elbo > before - self.extent.near:
                one.rest.trouble = one.rest.trouble or "the last steps lost what was gained"
        return max(few, key=lambda one: one.elbo)

    def _basins(self, ranked: list[Candidate]) -> list[int]:
        e = self.search.even(64)
        u = [one.mixture.points(e).reshape(1, -1, e.dim) for one in ranked]
        own = [one.mixture.log_prob(at)[0] for one, at in zip(ranked, u, strict=True)]

        def one_way(a: int, b: int) -> float:
            ratios = own[a] - ranked[b].mixture.log_prob(u[a])[0]
            each = ratios.reshape(ranked[a].mixture.size, -1)
            return float(ranked[a].mixture.weights[0] @ mean_of_finite(each))

        same = lambda a, b: one_way(a, b) + one_way(b, a) < SAME_BASIN
        return grouped(range(len(ranked)), same)

    # --- what came out -------------------------------------------------------------------

    def _tell(self, what: str) -> None:
        self.done += 1
        self.problem.progress(self.done, None, what)

    def _fit(self, found: list[Candidate], best: Candidate) -> Fit:
        ranked = sorted(found, key=lambda one: -one.elbo)
        basin = dict(zip(map(id, ranked), self._basins(ranked), strict=True))
        rows = [_row(one, basin[id(one)]) for one in found]
        wanted = 0 if self.family.grows else self.problem.restarts - len(rows)
        rows += [Restart(None, None, None, "not followed: log p takes too long")] * wanted
        losses = side_by_side([*(one.losses for one in found), *([[np.nan]] * max(0, wanted))])
        scores, rest = self.search.scores, best.rest
        assert rest is not None
        cost = Cost(0.0, scores.densities, scores.gradients)
        if not np.isfinite(best.elbo):
            message = "log p is not finite at most draws of every mixture that was found"
            return Fit(None, Status.FAILED, message, losses, tuple(rows), cost=cost)
        guide = self.family.with_components(best.mixture.size)
        q = GuideApproximation(guide, self._params(guide, best.mixture), self.problem.target)
        reached = sum(row.basin == 0 for row in rows)
        return Fit(
            q,
            Status.CONVERGED if rest.converged else Status.NOT_CONVERGED,
            self._message(found, best, reached),
            losses,
            tuple(rows),
            found.index(best),
            cost,
            self._covariance(guide, rest),
            settings={
                "components": best.mixture.size,
                "starts": len(found),
                "steps_to_rest": len(rest.losses),
            },
            remedy="name the solver framed or svi, whose steps can be raised",
            left=None
            if families.number_of_parameters(guide, self.problem.target) <= self.extent.few
            else _left(best, rest),
        )

    def _params(self, guide: Callable, q: Mixtures) -> dict:
        parts = q.weights[0], q.means[0], q.roots[0], q.dfs[0]
        return families.family(guide).from_components(*parts, self.problem.target)

    def _covariance(self, guide: Callable, rest: Rest) -> np.ndarray | None:
        """Of the parameters' error from noise. A step of size s moves them by s times a natural
        gradient, so that the way shows the noise of a gradient. After k steps of 2/(k + 4) there
        is 4/((4 r − 1) k) of its variance left where a full step would go the share r of the way to
        the optimum: 1 for one Gaussian, less for components that overlap; ½ is taken here."""
        if families.number_of_parameters(guide, self.problem.target) > self.extent.parameters:
            return None
        flat = lambda q: np.asarray(ravel_pytree(self._params(guide, q))[0], float)
        points = np.stack([flat(q) for q, _ in rest.way] + [flat(rest.mixture)])
        sizes = np.array([size for _, size in rest.way])[:, None]
        half = len(sizes) // 2
        gradients = (np.diff(points, axis=0) / sizes)[half:]
        if len(gradients) < 3:
            return None
        steps = max(1, len(sizes) - self.search.tuning.whole)
        # What goes slower still shows as a shift from one quarter of the way to the last.
        before, last = np.array_split(points[half:], 2)
        shift = last.mean(axis=0) - before.mean(axis=0)
        return np.atleast_2d(np.cov(gradients.T)) * 4 / steps + np.outer(shift, shift)

    def _message(self, found: list[Candidate], best: Candidate, reached: int) -> str:
        rest = best.rest
        assert rest is not None
        parts = []
        if self.family.grows:
            why = f", as {self.why}" if self.why else ""
            parts.append(f"{count(best.mixture.size)} components{why}")
        elif len(found) > 1:
            parts.append(f"{reached} of {count(len(found))} starts reached this optimum")
        steps = f"{len(rest.losses)} steps of natural gradient"
        left = f"an estimated {plain(max(rest.left, 1e-4), 1)} nats are left to gain from noise"
        if rest.trouble:
            parts.append(f"the last stage broke off after {steps}: {rest.trouble}")
        elif rest.moving:
            parts.append(f"it was still moving after {steps}; {left}")
        else:
            parts.append(f"at rest after {steps}, where {left}")
        parts.append("a better optimum that no start reached cannot be excluded")
        return "; ".join(parts)


def _left(best: Candidate, rest: Rest) -> Estimate | None:
    """What noise has left, and what the natural gradients promise on draws not seen before."""
    nats = rest.left + max(0.0, best.left)
    return Estimate(nats, 0.0, "nats") if np.isfinite(nats) else None


def _row(one: Candidate, basin: int) -> Restart:
    if not np.isfinite(one.elbo):
        return Restart(None, None, None, "log p is not finite at most of its draws")
    return Restart(-one.elbo, one.error, basin, "finished")
