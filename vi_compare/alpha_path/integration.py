"""Integration rules for ∫ f(p, q) du that are smooth functions of q's parameters: the noise is
the same whatever q is (common random numbers), so that an optimum can be followed to many digits.

On the line: evenly spaced nodes. In more dimensions: draws of p, which stay where they are, and
draws of q, which move with it, each weighted by one over the density of the whole lot (the
balance heuristic of Veach and Guibas 1995). Fixed nodes alone would fail there: a q that leaves
them costs nothing, and one that shrinks onto one of them gains without end.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from vi_compare.approximation import GuideApproximation
from vi_compare.batches import in_batches
from vi_compare.evidence import Draws, effective
from vi_compare.randomness import generator
from vi_compare.target import Target


class Points(NamedTuple):
    """∫ f(p, q) du ≈ Σ exp(log_v) f(p, q).

    Attributes:
        u: (n, d).
        log_v: (n,).
        log_p: (n,) of the target, normalised.
        log_q: (n,)
    """

    u: Array
    log_v: Array
    log_p: Array
    log_q: Array


class IntegrationRule(Protocol):
    """A pytree, so that one compiled function serves rules of one size."""

    @property
    def u(self) -> Array:
        """(n, d) nodes, or draws of p."""
        ...

    @property
    def method(self) -> str:
        """ "quadrature" or "monte carlo"."""
        ...

    @property
    def finest(self) -> float:
        """Smallest step in α with which the end of a branch is looked for."""
        ...

    @property
    def farthest(self) -> float:
        """Largest symmetrised KL in nats by which a step along one optimum may move q."""
        ...

    @property
    def same(self) -> float:
        """Symmetrised KL in nats below which two optima are one, found twice."""
        ...

    @property
    def gain(self) -> float:
        """Relative gain of a step with which a search is over."""
        ...

    def points(self, q: GuideApproximation) -> Points:
        """A differentiable function of q's parameters."""
        ...

    def error(self, terms: np.ndarray) -> float:
        """Standard error of Σ terms (n,), each with its weight in it."""
        ...

    def apart(self, one: GuideApproximation, other: GuideApproximation) -> Array:
        """Symmetrised KL between two q's in nats."""
        ...

    def diverges(self, terms: np.ndarray) -> bool:
        """Whether terms (n,) show that the integral is infinite, or the rule too short for it."""
        ...


@partial(
    jax.tree_util.register_dataclass, data_fields=["u", "log_v", "log_p"], meta_fields=["target"]
)
@dataclass(frozen=True)
class LineRule:
    """Evenly spaced nodes u (n, 1) with their weights log_v (n,) and log p (n,)."""

    u: Array
    log_v: Array
    log_p: Array
    target: Target

    method = "quadrature"
    finest, farthest, same, gain = 5e-4, 0.05, 1e-4, 1e-10

    @classmethod
    def around(
        cls, target: Target, draws: Draws, nodes: int = 6001, ranges: float = 2.0
    ) -> LineRule:
        """Nodes far beyond the draws of p on both sides.

        Args:
            nodes: how many; odd, so that every second one spans the same range.
            ranges: of the draws, beyond them on either side: for α below 1 the tails of p^α
                are heavier than those of p.
        """
        u = np.asarray(draws.u)[:, 0]
        room = ranges * (u.max() - u.min())
        grid = np.linspace(u.min() - room, u.max() + room, nodes)[:, None]
        log_v = np.full(nodes, np.log(grid[1, 0] - grid[0, 0]))
        log_p = np.asarray(in_batches(partial(_densities, target))(grid))
        log_p = log_p - np.logaddexp.reduce(log_v + log_p)
        return cls(jnp.asarray(grid), jnp.asarray(log_v), jnp.asarray(log_p), target)

    def points(self, q: GuideApproximation) -> Points:
        return Points(self.u, self.log_v, self.log_p, jax.vmap(q.log_prob)(self.u))

    def error(self, terms: np.ndarray) -> float:
        """The change when every second node is left out."""
        return float(abs(terms.sum() - 2 * terms[::2].sum()))

    def diverges(self, terms: np.ndarray) -> bool:
        """The terms grow outwards at an end, as where q's tails are too heavy or too light."""
        k = 20  # nodes that are added up at an end, so that rounding does not tell
        ends = (terms[:k], terms[k : 2 * k]), (terms[-k:], terms[-2 * k : -k])
        # Sums below 1e-12 are rounding.
        return any(outer.sum() > inner.sum() + 1e-12 for outer, inner in ends)

    def apart(self, one: GuideApproximation, other: GuideApproximation) -> Array:
        first, second = (self.log_v + jax.vmap(q.log_prob)(self.u) for q in (one, other))
        return jnp.sum((jnp.exp(first) - jnp.exp(second)) * (first - second))


@partial(
    jax.tree_util.register_dataclass,
    data_fields=["u", "log_p", "log_z", "key"],
    meta_fields=["target", "each", "chains"],
)
@dataclass(frozen=True)
class DrawnRule:
    """Draws of p and, for every q, draws of q made from the same noise.

    Attributes:
        u, log_p: (n, d), (n,) draws of p and their log density, not normalised.
        log_z: the log normaliser.
        key: of the noise.
        target: for log p at the draws of q.
        each: draws of each component of q.
        chains: number of Markov chains among the draws of p; 0 for independent draws.
    """

    u: Array
    log_p: Array
    log_z: Array
    key: Array
    target: Target
    each: int
    chains: int

    method = "monte carlo"
    finest, same, gain = 1e-2, 1e-2, 1e-8

    @property
    def farthest(self) -> float:
        return max(0.5, 0.05 * self.target.dim)

    @classmethod
    def of(cls, target: Target, draws: Draws, log_z: float, key: Array, each: int) -> DrawnRule:
        u, log_p, z = map(jnp.asarray, (draws.u, draws.log_p, log_z))
        return cls(u, log_p, z, key, target, each, draws.chains)

    def points(self, q: GuideApproximation) -> Points:
        log_w, parts = q.strata(self.key, self.each)
        moved = parts.reshape(-1, parts.shape[-1])
        u = jnp.concatenate([self.u, moved])
        log_p = jnp.concatenate([self.log_p, _densities(self.target, moved)]) - self.log_z
        log_q = jax.vmap(q.log_prob)(u)
        share = len(self.u) / len(u)  # of the lot that is drawn from p
        counted = jnp.concatenate(
            [
                jnp.full(len(self.u), jnp.log(share / len(self.u))),
                jnp.repeat(log_w, self.each) + jnp.log((1 - share) / self.each),
            ]
        )
        lot = jnp.logaddexp(jnp.log(share) + log_p, jnp.log(1 - share) + log_q)
        return Points(u, counted - lot, log_p, log_q)

    def error(self, terms: np.ndarray) -> float:
        groups = [terms[: len(self.u)], *terms[len(self.u) :].reshape(-1, self.each)]
        worth = [effective(x, self.chains if j == 0 else 0) for j, x in enumerate(groups)]
        both = zip(groups, worth, strict=True)
        return float(np.sqrt(sum(len(x) ** 2 * x.var() / n for x, n in both)))

    def diverges(self, terms: np.ndarray) -> bool:
        return False  # an infinite integral shows in the standard error only

    def apart(self, one: GuideApproximation, other: GuideApproximation) -> Array:
        """By draws of both, as E[2 tanh(x/2) x] for x = log q₁ − log q₂ under their mixture:
        nowhere negative, and exactly 0 where the two agree."""
        keys = jax.random.split(self.key, 500)  # of each: enough to tell two optima apart
        u = jnp.concatenate([jax.vmap(q.draw)(keys) for q in (one, other)])
        x = jax.vmap(one.log_prob)(u) - jax.vmap(other.log_prob)(u)
        return jnp.mean(2 * jnp.tanh(x / 2) * x)


@dataclass(frozen=True)
class Lot:
    """Points in random order, with weights that serve for every q of a path:
    ∫ f q du ≈ Σ exp(log_v) f q.

    Attributes:
        u: (n, d).
        log_v: (n,).
        log_p: (n,) of the target, normalised, where it is known.
        sizes: number of points from each density, one after another; () for a grid.
    """

    u: np.ndarray
    log_v: np.ndarray
    log_p: np.ndarray | None = None
    sizes: tuple[int, ...] = ()

    @classmethod
    def of_line(cls, rule: LineRule, key: Array) -> Lot:
        """The nodes, shuffled, so that the first few of them are spread over all."""
        order = generator(key).permutation(len(rule.u))
        u, log_v, log_p = (np.asarray(x)[order] for x in (rule.u, rule.log_v, rule.log_p))
        return cls(u, log_v, log_p)

    @classmethod
    def of_draws(cls, sets: Sequence[np.ndarray], densities: Sequence[Callable]) -> Lot:
        """Draws (m, d) of some densities, each weighted by one over the density of the lot
        (Veach and Guibas 1995, the balance heuristic)."""
        u = np.concatenate(sets)
        counted = zip(sets, densities, strict=True)
        all_of = [np.log(len(x)) + log_q(u) for x, log_q in counted]
        return cls(u, -np.logaddexp.reduce(all_of), sizes=tuple(map(len, sets)))

    def error(self, terms: np.ndarray) -> float:
        """Standard error of Σ terms (n,), each with its weight in it; a grid has none."""
        parts = np.split(terms, np.cumsum(self.sizes)[:-1]) if self.sizes else []
        return float(np.sqrt(sum(len(x) * x.var() for x in parts)))


def mass(points: Points) -> Array:
    """∫ q du by the rule: 1, unless q has mass where the rule has no points."""
    return jnp.sum(jnp.exp(points.log_v + points.log_q))


@partial(jax.jit, static_argnums=0)
def _densities(target: Target, u: Array) -> Array:
    return jax.vmap(target.log_density)(u)
