"""Hamiltonian Monte Carlo for many short chains at once, compiled once per target.

All chains take the same number of leapfrog steps, which is random, so that one program moves
them side by side; each has a step of its own, which is random too (Bou-Rabee and Sanz-Serna
2017, "Randomized Hamiltonian Monte Carlo"): short ones get a chain out of a narrow neck, long
ones are cheap everywhere else. Each chain moves in the frame of its region, and not out of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from vi_compare.reference.regions import Partition
from vi_compare.target import Target


@dataclass(frozen=True)
class Moves:
    """How chains move.

    Attributes:
        block: iterations of one compiled call, after which somebody may look.
        length: of a trajectory in the frame, from and to; half the period of a standard Gaussian
            in the middle, of which a jittered step goes about half.
        jitter: a chain's step ÷ the common step, log-uniform, from and to.
        most: number of leapfrog steps of a trajectory.
        accept: mean acceptance probability that the common step is to have.
    """

    block: int = 8
    length: tuple[float, float] = (0.5 * np.pi, 1.5 * np.pi)
    jitter: tuple[float, float] = (0.15, 1.3)
    most: int = 64
    accept: float = 0.8


class Steps(NamedTuple):
    """How far chains move at a time.

    Attributes:
        common: log of the step, in the frame, that all chains share; ().
        own: what each chain adds to it, at most 0; (chains,).
    """

    common: Array
    own: Array


class Block(NamedTuple):
    """What a block of iterations of each chain gave.

    Attributes:
        u: positions after each iteration, (chains, block, d).
        log_p: at them, (chains, block).
        accept: acceptance probabilities, (chains, block).
        common: the log step at the end, ().
        leapfrogs: steps of each chain; a gradient each, ().
    """

    u: Array
    log_p: Array
    accept: Array
    common: Array
    leapfrogs: Array


class _Chains(NamedTuple):
    v: Array
    log_p: Array
    slope: Array


@partial(jax.jit, static_argnums=(0, 1))
def advance(
    target: Target,
    moves: Moves,
    partition: Partition,
    u: Array,
    region: Array,
    steps: Steps,
    rate: Array,
    key: Array,
) -> Block:
    """Move chains at u (chains, d), each in its `region` (chains,), by one block.

    Args:
        rate: how fast the common step follows the acceptance (Robbins and Monro 1951); 0 where
            it has settled.
    """
    at = partial(_at, target, partition, region)
    free = steps.own > -0.1
    start = partition.into(u, region)

    def iterate(state, key):
        chains, common, time, spent = state
        length_key, step_key, momentum_key, accept_key = jax.random.split(key, 4)
        n, step = _trajectory(moves, length_key, step_key, steps._replace(common=common))
        momentum = jax.random.normal(momentum_key, chains.v.shape, chains.v.dtype)
        moved, ahead = _leapfrog(at, chains, momentum, step, n)
        gain = _energy(moved, ahead) - _energy(chains, momentum)
        inside = partition.region_of(partition.out_of(moved.v, region)) == region
        accept = jnp.where(jnp.isfinite(gain) & inside, jnp.minimum(1.0, jnp.exp(gain)), 0.0)
        taken = jax.random.uniform(accept_key, accept.shape) < accept
        chains = jax.tree.map(partial(_either, taken), moved, chains)
        # Those with steps of their own tell nothing of the step that the others share.
        mean = jnp.where(free, accept, 0.0).sum() / jnp.maximum(free.sum(), 1)
        common = common + rate * (mean - moves.accept) / jnp.sqrt(time + 1)
        return (chains, common, time + 1, spent + n), (chains.v, chains.log_p, accept)

    first = _Chains(start, *at(start))
    state = (first, steps.common, jnp.zeros(()), jnp.zeros((), int))
    state, (v, log_p, accept) = jax.lax.scan(iterate, state, jax.random.split(key, moves.block))
    u = jax.vmap(lambda one: partition.out_of(one, region))(v)
    return Block(u.swapaxes(0, 1), log_p.T, accept.T, state[1], state[3])


def _trajectory(
    moves: Moves, length_key: Array, step_key: Array, steps: Steps
) -> tuple[Array, Array]:
    """The number of leapfrog steps (), and the size of each chain's (chains, 1)."""
    length = jax.random.uniform(length_key, (), minval=moves.length[0], maxval=moves.length[1])
    n = jnp.clip(jnp.ceil(length / jnp.exp(steps.common)), 1, moves.most).astype(int)
    low, high = np.log(moves.jitter)
    jitter = jax.random.uniform(step_key, steps.own.shape, minval=low, maxval=high)
    return n, jnp.exp(steps.common + steps.own + jitter)[:, None]


def _leapfrog(at, chains: _Chains, momentum: Array, step: Array, n: Array):
    """The chains and their momenta after n steps."""

    def one(_, state):
        chains, momentum = state
        momentum = momentum + 0.5 * step * chains.slope
        v = chains.v + step * momentum
        chains = _Chains(v, *at(v))
        return chains, momentum + 0.5 * step * chains.slope

    return jax.lax.fori_loop(0, n, one, (chains, momentum))


def _at(target: Target, partition: Partition, region: Array, v: Array) -> tuple[Array, Array]:
    """log p (chains,) and its gradient in v; −∞ and 0 where either is not finite."""
    ask = target.over_points(jax.value_and_grad(target.log_density))
    log_p, slope = ask(partition.out_of(v, region))
    fine = jnp.isfinite(log_p) & jnp.isfinite(slope).all(axis=1)
    slope = partition.pulled_back(jnp.where(fine[:, None], slope, 0.0), region)
    return jnp.where(fine, log_p, -jnp.inf), slope


def _energy(chains: _Chains, momentum: Array) -> Array:
    """log density of position and momentum together, (chains,)."""
    return chains.log_p - 0.5 * jnp.sum(momentum**2, axis=1)


def _either(taken: Array, new: Array, old: Array) -> Array:
    return jnp.where(taken.reshape(taken.shape + (1,) * (new.ndim - 1)), new, old)
