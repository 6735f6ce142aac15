"""Mixtures of Gaussians or of Student t under reverse KL: grown component by component, and brought
to rest.

Steps are natural gradients (gaussian/mixture_steps.py). A component is added where q falls short:
several candidates are moved by themselves, the others held still, and the one that gains most is
taken, at the weight that gains most. Draws of the components that were there already are used
again, so that a candidate costs its own draws only. One candidate is a copy of what is there, so
that an addition never loses.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from scipy.special import logsumexp

from vi_compare.gaussian.antithetic import pairs
from vi_compare.gaussian.frames import Frame
from vi_compare.gaussian.gaussians import enough_draws
from vi_compare.gaussian.kernels import Base, GaussianKernel, Kernel
from vi_compare.gaussian.mixture_steps import (
    Seen,
    Slopes,
    elbo,
    look,
    mean_of_finite,
    noise,
    reweighted,
    signal,
    stepped,
)
from vi_compare.gaussian.mixtures import Mixtures
from vi_compare.gaussian.natural_gradient import ENOUGH, LOST
from vi_compare.scores import Scores

Tell = Callable[[str], None]


@dataclass(frozen=True)
class MixtureTuning:
    """Tunables of the search.

    Attributes:
        first: steps of single Gaussians, before any is added.
        joint: steps of all components after each addition.
        own: steps of a candidate by itself.
        candidates: for one addition.
        elsewhere: standard deviations from which a coordinate counts as another one.
        levels: nats below the highest log q at which what lies outside of q counts as seen: the
            first candidates are where log p is furthest above log q or such a level.
        wide: times as far as a draw of its own a component is searched around.
        together: components there are for each that is added at once.
        narrow: width of a candidate, in units of the component that is nearest.
        weights: of a candidate that are tried, as shares of what each component has on average.
        little: nats that the second of several components, and those after it, must gain.
        farthest: maximum KL in nats between a component before and after a step.
        most: steps until a mixture is at rest.
        fewest: minimum number of them.
        whole: steps at full length before they become shorter: components that overlap come to
            rest more slowly than each by itself would, and shorter steps would leave them there.
        aim: nats left at which to stop while draws are cheap.
        cheap: draws that may be spent on getting from `ENOUGH` to `aim`.
        still: a step may promise this many nats beyond its noise in a fit that is at rest.
        window: number of last steps whose noise is averaged.
    """

    first: int = 30
    joint: int = 10
    own: int = 10
    candidates: int = 8
    elsewhere: float = 3.0
    levels: tuple[float, ...] = (1e4, 500.0, 100.0, 50.0, 20.0, 10.0, 5.0)
    wide: float = 4.0
    together: int = 8
    narrow: float = 0.7
    weights: tuple[float, ...] = (0.01, 0.03, 0.1, 0.3, 0.6, 1.0, 1.5, 2.5)
    little: float = 5e-3
    farthest: float = 0.5
    most: int = 150
    fewest: int = 40
    whole: int = 20
    aim: float = 1e-5
    cheap: int = 40_000
    still: float = 4e-3
    window: int = 20


@dataclass
class Rest:
    """How a mixture was brought to rest.

    Attributes:
        mixture: at the end, one row.
        losses: −ELBO in nats at every step, each on its own draws.
        left: estimated excess of the loss over the optimum from noise, in nats.
        moving: whether it had not come to rest.
        trouble: "" or why it broke off.
        way: the mixture before every step, with the step's size.
    """

    mixture: Mixtures
    losses: list[float] = field(default_factory=list)
    left: float = np.inf
    moving: bool = True
    trouble: str = ""
    way: list[tuple[Mixtures, float]] = field(default_factory=list)

    @property
    def converged(self) -> bool:
        return not self.trouble and not self.moving and self.left < ENOUGH


class MixtureSearch:
    """Moves mixtures over one target.

    Args:
        places: Gaussians around modes of the target, the best first.
        diagonal: whether covariances are diagonal.
        kernel: what components are; Gaussians where none is given.
    """

    def __init__(
        self,
        scores: Scores,
        rng: np.random.Generator,
        places: tuple[Frame, ...],
        diagonal: bool,
        tuning: MixtureTuning = MixtureTuning(),
        kernel: Kernel | None = None,
    ):
        self.scores, self.rng, self.diagonal, self.tuning = scores, rng, diagonal, tuning
        self.kernel = kernel = kernel or GaussianKernel()
        self.places = Mixtures.of(
            np.zeros((1, len(places))),
            np.stack([place.mean for place in places])[None],
            np.stack([self._root(place) for place in places])[None],
            kernel,
        )
        self.draws = enough_draws(4 * scores.dim, 64)

    def _root(self, place: Frame) -> np.ndarray:
        return np.diag(place.conditional_scales) if self.diagonal else place.tril

    def even(self, n: int = 0) -> Base:
        """n draws for a step."""
        return self.kernel.base(self.rng, n or self.draws, self.scores.dim)

    # --- starts ----------------------------------------------------------------------------

    def at_places(self, most: int) -> Mixtures:
        """One component at each of the best places, at most so many, weighed by their ELBOs."""
        few = self.places.components(range(min(most, self.places.size)))
        alone = look(few.apart(), self.scores, self.even(), self.diagonal).rewards[:, 0]
        return few.weighted(np.where(np.isfinite(alone), alone, alone.min())[None])

    def single(self, starts: int = 4) -> tuple[Mixtures, np.ndarray]:
        """The best single component from the best places, and its losses."""
        few = self.places.components(range(min(starts, self.places.size)))
        moved, losses = self.moved(few.apart(), self.tuning.first)
        best = int(np.argmin(losses[-5:].mean(axis=0)))
        return moved.rows([best]), losses[:, best]

    def scattered(self, rows: int, components: int) -> Mixtures:
        """Mixtures that begin apart: components at places chosen at random, and around them."""
        r, k = rows, components
        which = self.rng.integers(self.places.size, size=(r, k))
        means, roots = self.places.means[0][which], self.places.roots[0][which]
        away = self.rng.standard_normal((r, k, 1, self.scores.dim))
        # The first of every place stays there; another of the same place is put beside it.
        again = np.array([[which[i, j] in which[i, :j] for j in range(k)] for i in range(r)])
        far = np.where(again, 1.5, self.rng.choice([0.0, 1.5], (r, k)))[..., None]
        means = means + far * (away @ np.swapaxes(roots, -1, -2))[:, :, 0]
        return Mixtures.of(np.zeros((r, k)), means, self.tuning.narrow * roots, self.kernel)

    # --- steps -----------------------------------------------------------------------------

    def moved(self, q: Mixtures, steps: int) -> tuple[Mixtures, np.ndarray]:
        """After so many steps of all components; and −ELBO (steps, R) before each."""
        losses = np.empty((steps, len(q)))
        for k in range(steps):
            seen = look(q, self.scores, self.even(), self.diagonal)
            losses[k] = -elbo(q, seen.rewards)
            q = self._step(q, seen, min(0.5, 4 / (k + 6)))
        return q, losses

    def _step(self, q: Mixtures, seen: Seen, size: float) -> Mixtures:
        moved = stepped(q, seen, size, self.tuning.farthest)
        return reweighted(moved, seen.rewards, min(1.0, 2 * size))

    def brought_to_rest(self, q: Mixtures, tell: Tell) -> Rest:
        """One mixture, by steps that become shorter until what noise leaves is small."""
        tuning, state, seen = self.tuning, Rest(q), []
        for k in range(tuning.most):
            # Draws whose covariance is made exactly I have lighter tails than a normal has: few of
            # them would bring q to rest elsewhere.
            e = self.kernel.base(self.rng, self.draws, self.scores.dim, pairs)
            found = look(q, self.scores, e, self.diagonal)
            lost = float((q.weights * found.lost).sum())
            if lost > LOST:
                state.trouble = f"log p is not finite at {lost:.0%} of the draws"
                break
            state.losses.append(-float(elbo(q, found.rewards)[0]))
            seen.append((found.slopes, found.rewards, float(noise(q, found)[0])))
            size = min(0.5, 2 / (max(0, k - tuning.whole) + 4))
            state.way.append((q, size))
            state.mixture = q = self._step(q, found, size)
            self._judge(state, seen)
            tell(f"at rest? step {k + 1}, loss {state.losses[-1]:.5g}")
            spent = (k + 1) * self.draws * q.size
            enough = tuning.aim if spent < tuning.cheap else ENOUGH / 2
            if k + 1 >= tuning.fewest and not state.moving and state.left < enough:
                break
        return state

    def _judge(self, state: Rest, seen: list) -> None:
        """As `natural_gradient` judges one Gaussian."""
        tuning = self.tuning
        level = float(np.mean([one[2] for one in seen[-tuning.window :]]))
        state.left = 4 / 3 * level / max(1, len(seen) - tuning.whole)
        half = seen[len(seen) // 2 :]
        slopes = Slopes(*(np.mean([one[0][i] for one in half], axis=0) for i in range(3)))
        rewards = np.mean([one[1] for one in half], axis=0)
        excess = float(signal(state.mixture, slopes, rewards)[0]) - level / len(half)
        state.moving = excess > tuning.still + level / len(half)

    def thinned(self, q: Mixtures, components: int, tell: Tell) -> tuple[Mixtures, np.ndarray]:
        """One mixture without the components that it misses least, down to so many; and losses."""
        losses = [np.empty(0)]
        while q.size > components:
            q = q.components(self._spared(q, min(q.size - components, max(1, q.size // 4))))
            q, some = self.moved(q, self.tuning.joint)
            losses.append(some[:, 0])
            tell(f"{q.size} components kept, loss {some[-1, 0]:.5g}")
        return q, np.concatenate(losses)

    def _spared(self, q: Mixtures, number: int) -> list[int]:
        """What stays of the components when so many are left out one after another, each the one
        whose loss costs least on the draws of all others."""
        here = look(q, self.scores, self.even(), self.diagonal)
        u, log_p = here.u.reshape(1, -1, q.dim), here.log_p[0]
        parts = q.log_parts(u)[0] + q.log_weights[0][:, None]
        kept = list(range(q.size))
        for _ in range(number):
            kept.remove(max(kept, key=lambda one: self._without(q, parts, log_p, kept, one)))
        return kept

    def _without(
        self, q: Mixtures, parts: np.ndarray, log_p: np.ndarray, kept: list[int], one: int
    ) -> float:
        """ELBO of the components `kept` without one of them.

        Args:
            parts: log w_k q_k (K, K m) of each at the draws of all, and log_p (K, m) there.
        """
        others = [k for k in kept if k != one]
        weights = q.weights[0, others]
        log_q = logsumexp(parts[others], axis=0).reshape(log_p.shape)[others]
        rewards = mean_of_finite(log_p[others] - log_q + np.log(weights.sum()))
        return float((weights * rewards).sum() / weights.sum())

    # --- additions -------------------------------------------------------------------------

    def grown(self, q: Mixtures, components: int, tell: Tell) -> tuple[Mixtures, np.ndarray]:
        """One mixture with components added up to so many; and its losses."""
        losses = [np.empty(0)]
        while q.size < components:
            q, some = self.larger(q, components, tell)
            losses.append(some)
        return q, np.concatenate(losses)

    def larger(self, q: Mixtures, most: int, tell: Tell) -> tuple[Mixtures, np.ndarray]:
        """One mixture with a few components more, `most` in all; and its losses."""
        q = self.added(q, min(most - q.size, self.together(q)))
        q, losses = self.moved(q, self.tuning.joint)
        tell(f"{q.size} components, loss {losses[-1, 0]:.5g}")
        return q, losses[:, 0]

    def together(self, q: Mixtures) -> int:
        """How many components are added to a mixture at once."""
        return max(1, q.size // self.tuning.together)

    def added(self, q: Mixtures, number: int = 1) -> Mixtures:
        """One mixture with so many components more; with fewer, one at least, where the next
        would gain little."""
        tuning = self.tuning
        here = look(q, self.scores, self.even(), self.diagonal)
        new = self._candidates(q, here, tuning.candidates + 2 * (number - 1))
        share = 1 / (q.size + 1)
        trials = q.rows([0] * len(new)).joined(new, share)
        for _ in range(tuning.own):
            seen = look(trials, self.scores, self.even(), self.diagonal, last=1)
            trials = stepped(trials, seen, 0.5, 2 * tuning.farthest)
        own = look(trials, self.scores, self.even(), self.diagonal, last=1)
        new = trials.components([q.size])
        u, log_p = here.u[0], here.log_p[0]
        shares = np.array([share * one for one in tuning.weights if share * one < 0.9])
        reached = -np.inf
        for _ in range(number):
            elbos = self._with(q, u, log_p, new, own, shares)
            row, column = (int(i) for i in np.unravel_index(np.argmax(elbos), elbos.shape))
            if elbos[row, column] < reached + tuning.little:
                break
            reached = float(elbos[row, column])
            q = q.joined(new.rows([row]), float(shares[column]))
            u, log_p = np.concatenate([u, own.u[row]]), np.concatenate([log_p, own.log_p[row]])
        return q

    def _with(
        self,
        q: Mixtures,
        u: np.ndarray,
        log_p: np.ndarray,
        new: Mixtures,
        own: Seen,
        shares: np.ndarray,
    ) -> np.ndarray:
        """ELBO (n, S) of q with each of n new components at each of S shares.

        Args:
            u, log_p: draws (K, m, d) of the components of q, and (K, m).
            new: the components, one a row, and `own` their draws.
        """
        n, d = len(new), q.dim
        of_q = q.log_prob(u.reshape(1, -1, d)), log_p.reshape(1, -1)
        of_new = q.log_prob(own.u.reshape(1, -1, d)).reshape(n, -1), own.log_p[:, 0]
        at_q = new.log_parts(np.broadcast_to(u.reshape(1, -1, d), (n, log_p.size, d)))[:, 0]
        at_own = new.log_parts(own.u[:, 0])[:, 0]
        elbos = []
        for share in shares:
            mixed = lambda a, b, share=share: np.logaddexp(a + np.log1p(-share), b + np.log(share))
            before = (of_q[1] - mixed(of_q[0], at_q)).reshape(n, q.size, -1)
            after = mean_of_finite(of_new[1] - mixed(of_new[0], at_own))
            elbos.append((1 - share) * (q.weights * mean_of_finite(before)).sum(1) + share * after)
        return np.nan_to_num(np.stack(elbos, axis=1), nan=-np.inf)

    def _candidates(self, q: Mixtures, here: Seen, most: int) -> Mixtures:
        """Where the next component could begin, one a row: at places that q leaves out, where q
        falls short, and as a copy of the heaviest component."""
        means, roots = (
            np.concatenate(both) for both in zip(self._left_out(q), self._exchanged(q), strict=True)
        )
        begin = np.full(len(means), self.kernel.start)
        points = self._short(q, here, most - 1 - len(means))
        near = np.argmax(q.log_parts(points[None])[0] + q.log_weights[0][:, None], axis=0)
        copy = [int(np.argmax(q.log_weights[0]))]
        means = np.concatenate([means, points, q.means[0, copy]])
        roots = np.concatenate([roots, self.tuning.narrow * q.roots[0, near], q.roots[0, copy]])
        dfs = np.concatenate([begin, q.dfs[0, near], q.dfs[0, copy]])
        none = np.zeros((len(means), 1))
        return Mixtures.of(none, means[:, None], roots[:, None], self.kernel, dfs[:, None])

    def _left_out(self, q: Mixtures, few: int = 32) -> tuple[np.ndarray, np.ndarray]:
        """Means (n, d) and roots (n, d, d) of the places with the highest mean log-density ratio,
        where that is higher than on average: three at most."""
        e = self.even(few)
        u = self.places.points(e)[0]
        log_p, _ = self.scores(u.reshape(-1, q.dim))
        log_q = q.log_prob(u.reshape(1, -1, q.dim))[0]
        rewards = mean_of_finite((log_p - log_q).reshape(len(u), -1))
        best = np.argsort(-rewards)[:3]
        best = best[rewards[best] > self._average(q, e)]
        return self.places.means[0, best], self.places.roots[0, best]

    def _exchanged(self, q: Mixtures, most: int = 512) -> tuple[np.ndarray, np.ndarray]:
        """Means (n, d) and roots (n, d, d) of heavy components with one coordinate from a place
        elsewhere: where k coordinates have two modes each there are 2^k modes, and no list of
        places has them all. The two where log p is highest of those that q leaves out."""
        heavy = np.argsort(-q.log_weights[0], kind="stable")[:4]
        scales = np.linalg.norm(q.roots[0, heavy], axis=2)
        away = np.abs(self.places.means[0][None] - q.means[0, heavy][:, None])
        one, place, column = np.nonzero(away > self.tuning.elsewhere * scales[:, None])
        if not len(one):
            return np.empty((0, q.dim)), np.empty((0, q.dim, q.dim))
        if len(one) > most:
            some = np.sort(self.rng.choice(len(one), most, replace=False))
            one, place, column = one[some], place[some], column[some]
        u = q.means[0, heavy[one]]
        u[np.arange(len(u)), column] = self.places.means[0, place, column]
        log_q = q.log_prob(u[None])[0]
        level = q.log_prob(q.means[:, heavy])[0].max() - self.tuning.levels[-1]
        order = np.argsort(np.maximum(level, log_q) - self.scores(u)[0], kind="stable")
        of_each = np.unique(column[order], return_index=True)[1]  # the best of each coordinate
        best = order[np.sort(of_each)][:2]
        return u[best], q.roots[0, heavy[one[best]]]

    def _average(self, q: Mixtures, e: Base) -> float:
        return float(elbo(q, look(q, self.scores, e, self.diagonal).rewards)[0])

    def _short(self, q: Mixtures, here: Seen, most: int) -> np.ndarray:
        """Points (n, d) where q falls short, of draws of q and of draws further out: where log p is
        furthest above log q, or above what q has at its top less some nats; and, by chance, where
        mass is missing."""
        e = self.even().stretched(self.rng.uniform(1, self.tuning.wide, self.draws))
        wide = q.points(e)[0].reshape(-1, q.dim)
        u = np.concatenate([here.u.reshape(-1, q.dim), wide])
        log_p = np.concatenate([here.log_p.ravel(), self.scores(wide)[0]])
        log_q = np.concatenate([here.log_q.ravel(), q.log_prob(wide[None])[0]])
        top, chosen = log_q.max(), []
        for level in self.tuning.levels[:most]:
            order = np.argsort(-(log_p - np.maximum(top - level, log_q)))
            chosen.append(next(int(i) for i in order if i not in chosen))
        missing = np.maximum(log_p - log_q, -50.0)
        missing = np.exp(missing - missing.max())
        missing[chosen] = 0.0
        more = min(most - len(chosen), int((missing > 0).sum()))
        if more > 0:
            by_chance = self.rng.choice(len(u), more, replace=False, p=missing / missing.sum())
            chosen.extend(by_chance.tolist())
        return u[chosen]
