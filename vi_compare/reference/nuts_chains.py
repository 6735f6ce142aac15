"""Chains of NUTS in a frame: how long they run, and what that may cost."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import Array
from numpyro.infer import MCMC, NUTS

from vi_compare.evidence import Draws
from vi_compare.gaussian.frames import Frame, Survey, from_paths
from vi_compare.randomness import split
from vi_compare.reference import PARTS, part
from vi_compare.reference.chains import Limits, diagnose
from vi_compare.reference.circles import angles, rolled, unrolled, unrolled_at
from vi_compare.starts import starting_points
from vi_compare.target import Target


@dataclass(frozen=True)
class Sampling:
    """How NUTS is run.

    Attributes:
        chains: number of chains, a multiple of the parts of a reference.
        warmup: warm-up draws of each chain, in the frame of a Gaussian.
        settle: the same in the frame of those draws, which follows.
        warmup_unframed: the same where there is none.
        block: draws of each chain between two looks at R-hat and ESS.
        enough: gradients, warm-up included, after which sampling ends if the draws are
            good. Counted, not timed, so that the same command gives the same draws.
        least: draws of each chain before that, as a fit to draws in many dimensions needs more
            of them than R-hat and ESS ask for.
        most: gradients after which it ends in any case.
        draws: maximum number of draws of one part.
        dense: maximum dimension for a dense mass matrix; above it, and in a frame, which has
            the correlations, a diagonal one: as good there, and learned from a few draws.
        accept: target acceptance probability; high, because steps that are too long for
            the curvature diverge.
        careful: the same where they did so nevertheless.
        settlings: how often a frame is made of the draws in the one before, at most: once, and
            again while more than `full` of the trees are as large as they may be.
        full: share of the trees.
        depths: maximum depth of a tree in the first frame, in later ones, and where there is
            none. A frame that asks for deeper trees is a poor one, and the next is better.
        several: transitions that diverged, at least, where so many are held to be too many.
        operations: of `enough` gradients, at most; some minute. Where log p takes longer
            there are fewer of them, of `least` and of `warmup_unframed`.
        fewest: of the last two, that there have to be in any case.
        steps: of a trajectory, as many as are usual.
    """

    chains: int = 2 * len(PARTS)
    warmup: int = 150
    settle: int = 75
    warmup_unframed: int = 1000
    block: int = 100
    enough: int = 300_000
    least: int = 1000
    most: int = 900_000
    draws: int = 10_000
    dense: int = 60
    accept: float = 0.95
    careful: float = 0.99
    settlings: int = 4
    full: float = 0.2
    depths: tuple[int, int, int] = (7, 8, 10)
    several: int = 3
    operations: float = 4e10
    fewest: int = 200
    steps: int = 16

    def within(self, target: Target) -> Sampling:
        """The same, cut to what may be spent on a target."""
        share = self.operations / max(target.operations * self.enough, self.operations)
        cut = lambda number, least=1: max(least, round(share * number))
        return replace(
            self,
            warmup_unframed=cut(self.warmup_unframed, self.fewest),
            enough=cut(self.enough),
            least=cut(self.least, self.fewest),
            most=cut(self.most),
        )

    @property
    def spared(self) -> str:
        """What was given up, as log p takes long; "" for nothing."""
        if self.enough >= USUAL.enough:
            return ""
        return (
            f"as log p takes long, sampling ends after {self.enough:,} gradients where they are "
            f"enough, and not after {USUAL.enough:,}"
        )

    @property
    def is_possible(self) -> bool:
        """Whether what may be spent is as much as the least that chains take."""
        least = self.warmup + self.settle + self.fewest
        return self.chains * least * self.steps <= self.enough

    def too_many(self, diverged: int, transitions: int) -> bool:
        """Whether more of the transitions diverged than a reference may have."""
        return diverged > max(self.several - 1, Limits().divergences * transitions)

    def thinning(self, drawn: int, n: int) -> int:
        """Which of the draws of a chain are kept for a part to have at most `n`: every such one."""
        return max(1, -(-drawn * self.per_part // n))

    @property
    def per_part(self) -> int:
        """Number of chains of one part of the reference."""
        return self.chains // len(PARTS)

    @property
    def settings(self) -> dict[str, Any]:
        """As plain data, for the results and for the name of what is kept."""
        return {
            "chains": self.chains,
            "warmup": [self.warmup, self.settle, self.settlings],
            "warmup_unframed": self.warmup_unframed,
            "block": self.block,
            "target_accept_prob": [self.accept, self.careful],
            "dense_mass": self.dense,
            "max_tree_depth": list(self.depths),
            "draws": self.least,
            "gradients": [self.enough, self.most],
        }


USUAL = Sampling()


class FramedChains:
    """Chains over v, where u = mean + tril v in the frame of a Gaussian near the target's mass.

    In the target's own coordinates a chain spends most of its gradients on finding out how long
    each of them is: its first trees are up to a thousand steps deep. The first frame is that of
    the best Gaussian of some quasi-Newton ascents, which now and then is a poor one; each other
    is that of the draws of all chains in the one before.
    """

    def __init__(self, target: Target, key: Array, sampling: Sampling):
        survey_key, self._start_key = split(key, 2)
        self.target, self.sampling = target, sampling
        # The Gaussians are over u, which an angle is not moved over.
        survey = Survey(()) if angles(target).any() else from_paths(target, survey_key)
        self.is_framed, self.gradients = bool(survey.frames), survey.gradients
        self.frame = survey.frames[0] if survey.frames else Frame.identity(target.dim)
        first, later, unframed = sampling.depths
        # Draws of each stage of the warm-up, and the maximum depth of its trees.
        self.stages = [(sampling.warmup_unframed, unframed)]
        if self.is_framed:
            self.stages = [(sampling.warmup, first), (sampling.settle, later)]
        self.mcmc = self._sampler(*self.stages[0], sampling.accept)

    def _sampler(self, warmup: int, depth: int, accept: float) -> MCMC:
        density, sampling = unrolled(self.target), self.sampling
        mean, tril = jnp.asarray(self.frame.mean), jnp.asarray(self.frame.tril)
        kernel = NUTS(
            potential_fn=lambda v: -density(mean + tril @ v),
            target_accept_prob=accept,
            dense_mass=not self.is_framed and self.target.dim <= sampling.dense,
            max_tree_depth=depth,
        )
        return MCMC(
            kernel,
            num_warmup=warmup,
            num_samples=sampling.block,
            num_chains=sampling.chains,
            chain_method="vectorized",
            progress_bar=False,
        )

    def warm_up(self, key: Array) -> None:
        """From the starts; what that takes is counted."""
        first, second = split(key, 2)
        self._warm_up(first, self._starts())
        for settle_key in split(second, self.sampling.settlings) if self.is_framed else ():
            self._settle(settle_key)
            if not self._is_full():
                break

    def take_care(self, key: Array) -> None:
        """Warm up again, from where the chains are, to steps as short as the curvature asks."""
        now = self.mcmc.last_state.z
        self.mcmc = self._sampler(*self.stages[-1], self.sampling.careful)
        self._warm_up(key, now)

    def _warm_up(self, key: Array, starts: Array) -> None:
        fields = ("num_steps",)
        self.mcmc.warmup(key, init_params=starts, extra_fields=fields, collect_warmup=True)
        self._count()

    def _is_full(self) -> bool:
        """Whether many of the last trees were as large as they may be: the frame is poor."""
        steps = np.asarray(self.mcmc.get_extra_fields()["num_steps"])
        return bool((steps >= 2 ** self.stages[-1][1] - 1).mean() > self.sampling.full)

    def _settle(self, key: Array) -> None:
        """Warm up in the frame of the chains' own draws. The covariance is that within chains, as
        these may be in several modes, drawn towards the frame's as if that were `dim` draws."""
        v = np.asarray(self.mcmc.get_samples(group_by_chain=True))
        v = v[:, v.shape[1] // 3 :]
        apart = (v - v.mean(axis=1, keepdims=True)).reshape(-1, self.target.dim)
        free = len(apart) - len(v)
        identity = np.eye(self.target.dim)
        within = (apart.T @ apart + len(identity) * identity) / (free + len(identity))
        old, now = self.frame, self.frame.out_of(np.asarray(self.mcmc.last_state.z))
        mean = old.out_of(v.mean(axis=(0, 1)))
        self.frame = Frame(mean, old.tril @ np.linalg.cholesky(within))
        self.mcmc = self._sampler(*self.stages[-1], self.sampling.accept)
        self._warm_up(key, jnp.asarray(self.frame.into(now)))

    def block(self) -> tuple[np.ndarray, np.ndarray, int]:
        """u (chains, block, d), log p (chains, block) up to a constant, and how many transitions
        diverged."""
        fields = ("diverging", "num_steps", "potential_energy")
        self.mcmc.run(self.mcmc.post_warmup_state.rng_key, extra_fields=fields)
        self.mcmc.post_warmup_state = self.mcmc.last_state
        self._count()
        extra = self.mcmc.get_extra_fields(group_by_chain=True)
        v = self.mcmc.get_samples(group_by_chain=True)
        u = rolled(self.target, jnp.asarray(self.frame.out_of(v)))
        heights = -np.asarray(extra["potential_energy"])
        return np.asarray(u), heights, int(np.asarray(extra["diverging"]).sum())

    def _count(self) -> None:
        self.gradients += int(np.asarray(self.mcmc.get_extra_fields()["num_steps"]).sum())

    def _starts(self) -> Array:
        """v (chains, d) of places that have nothing to do with the frame: chains that start at
        draws of a Gaussian which is a poor one stay in its spike or in a funnel's neck."""
        anywhere = starting_points(self.target, self._start_key, self.sampling.chains)
        return jnp.asarray(self.frame.into(np.asarray(unrolled_at(self.target, anywhere))))


def sample(
    target: Target, key: Array, n: int, progress: Callable, sampling: Sampling
) -> dict[str, Any]:
    """u (chains, draws, d), the share of divergent transitions, and gradients spent."""
    start_key, run_key, careful_key = split(key, 3)
    per_chain = -(-n // sampling.per_part)
    most = -(-per_chain // sampling.block)
    chains = FramedChains(target, start_key, sampling)
    steps = sum(draws for draws, _ in chains.stages)
    progress(0, None, f"{sampling.chains} chains warm up, {steps} steps each")
    chains.warm_up(run_key)
    blocks: list[np.ndarray] = []
    heights: list[np.ndarray] = []
    diverged: list[int] = []
    is_careful = False
    while True:
        draws, height, failed = chains.block()
        blocks.append(draws)
        heights.append(height)
        diverged.append(failed)
        u, log_p = np.concatenate(blocks, axis=1), np.concatenate(heights, axis=1)
        enough = chains.gradients >= sampling.enough and u.shape[1] >= sampling.least
        spent_well = enough or len(blocks) >= most
        if not (is_careful or spent_well) and sampling.too_many(sum(diverged), log_p.size):
            progress(0, None, "steps were too long for the curvature; the chains warm up again")
            chains.take_care(careful_key)
            is_careful, blocks, heights, diverged = True, [], [], []
            continue
        # More than were wanted are drawn until the chains agree: nobody knows how many.
        total = most if len(blocks) < most else None
        progress(len(blocks), total, f"{log_p.size} draws")
        kept = (slice(None), slice(None, None, sampling.thinning(u.shape[1], n)))
        good = spent_well and not _doubtful(u[kept], log_p[kept])
        if good or chains.gradients >= sampling.most:
            share = sum(diverged) / log_p.size
            return {"u": u, "diverged": share, "gradients": chains.gradients}


def _doubtful(u: np.ndarray, log_p: np.ndarray) -> bool:
    """Whether more draws than u (chains, n, d), with log_p (chains, n), are needed; the share
    of divergences is not asked for, because more draws do not mend it."""
    flat = jnp.asarray(u.reshape(-1, u.shape[2]))
    chains = Draws(flat, {}, jnp.asarray(log_p.reshape(-1)), chains=len(u))
    return bool(diagnose(chains, part(chains, PARTS.index("test")), None).doubts)
