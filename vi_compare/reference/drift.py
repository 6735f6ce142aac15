"""How far chains go that begin at a fit's own draws.

Chains that begin at draws of the target stay spread as the target is, however slowly they move.
So a margin whose place or width changes between the fit's draws and where the chains are now
shows that the fit is not the target (Wang, Kasprzak and Huggins 2023, "A targeted accuracy
diagnostic for variational approximations"). By how much it is off this alone does not tell: from
a Gaussian with the funnel's own moments the chains of most margins first go the wrong way. It
asks of the fit nothing but its draws.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from vi_compare.evidence import Draws
from vi_compare.gaussian.frames import from_draws
from vi_compare.reference.circles import angles
from vi_compare.reference.hmc import Moves, Steps, advance
from vi_compare.reference.regions import Partition
from vi_compare.reference.trail import Trail, in_blocks
from vi_compare.target import Target


@dataclass(frozen=True)
class Walk:
    """How chains are run from a fit's draws.

    Attributes:
        chains: at most so many, and at least `fewest`.
        blocks: at least so many: the first finds the step.
        usual: leapfrog steps of an iteration, about.
        kept: share of the blocks, the last ones, that tell where the chains are now.
        step: of the first iteration, in the frame.
        moves: how they move.
    """

    chains: int = 128
    fewest: int = 32
    blocks: int = 3
    usual: int = 8
    kept: float = 0.5
    step: float = 0.5
    moves: Moves = field(default_factory=Moves)

    def number(self, most: int) -> int:
        """Of chains, for so many gradients; 0 where these are too few."""
        found = min(self.chains, most // (self.blocks * self.moves.block * self.usual))
        return found if found >= self.fewest else 0


@dataclass(frozen=True)
class Drift:
    """Where chains are that began at a fit's draws.

    Attributes:
        now: their last draws.
        way: that they went.
        chains, iterations: of each chain; gradients: of all together.
    """

    now: Draws
    way: Trail
    chains: int
    iterations: int
    gradients: int


def drift(
    target: Target,
    fit: Draws,
    key: Array,
    most: int,
    progress: Callable[[int, int | None, str], None],
    walk: Walk = Walk(),
) -> Drift | None:
    """Run chains from draws of a fit, in the frame of their own Gaussian; None where so many
    gradients are not enough for that, where angles make two ends of what is none, or where the
    frame would be too large.

    Args:
        most: gradients; the block that passes them is the last.
    """
    n = walk.number(most)
    if not n or angles(target).any():
        return None
    frames, begin = from_draws(fit.u).frames, _begin(fit, n)
    if not frames or begin is None:
        return None
    partition, region = Partition.of(frames), jnp.zeros(n, int)
    u = jnp.asarray(begin, jnp.result_type(float))
    steps = Steps(jnp.log(jnp.asarray(walk.step, u.dtype)), jnp.zeros(n, u.dtype))
    blocks: list[np.ndarray] = []
    gradients = 0
    while len(blocks) < walk.blocks or gradients < most:
        progress(min(gradients, most), most, f"{n} chains from its draws")
        rate = jnp.asarray(0.0 if blocks else 1.0, u.dtype)
        block_key = jax.random.fold_in(key, len(blocks))
        found = advance(target, walk.moves, partition, u, region, steps, rate, block_key)
        gradients += (int(found.leapfrogs) + 1) * n
        u, steps = found.u[:, -1], steps._replace(common=found.common)
        blocks.append(np.asarray(found.u))
    return _measured(target, blocks, gradients, walk)


def _begin(fit: Draws, n: int) -> np.ndarray | None:
    """n draws of the fit (n, d) that log p is finite at; None where there are not as many."""
    u = np.asarray(fit.u)
    fine = np.isfinite(u).all(axis=1)
    if fit.log_p is not None:
        fine &= np.isfinite(np.asarray(fit.log_p))
    rows = np.flatnonzero(fine)
    return u[rows[np.linspace(0, len(rows) - 1, n).astype(int)]] if len(rows) >= n else None


def _measured(target: Target, blocks: list[np.ndarray], gradients: int, walk: Walk) -> Drift:
    n, block, d = blocks[0].shape
    number = len(blocks)
    draws = target.complete(jnp.asarray(np.concatenate(blocks).reshape(-1, d)))
    done = [block * (i + 1) for i in range(number)]
    weights = [np.ones(n * block)] * number
    way = Trail.of(done, in_blocks(draws.values, blocks), weights, n, dict(draws.coords))
    kept = max(1, round(walk.kept * number))
    rows = np.arange(len(draws)).reshape(number, n, block)[-kept:]
    found = draws[rows.swapaxes(0, 1).reshape(-1)]  # chain by chain
    return Drift(replace(found, chains=n), way, n, number * block, gradients)
