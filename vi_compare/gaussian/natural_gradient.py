"""The last stage of a Gaussian fit: natural gradients on fresh draws, until what is left to
gain is less than anybody can see.

Draws that are held fixed bias an optimum; fresh ones do not. A regression of the whitened
scores on the draws takes all of the noise that a Gaussian target would make out of the
step (Salimans and Knowles 2013, "Fixed-form variational posterior approximation through
stochastic linear regression", Bayesian Analysis 8(4)).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from vi_compare.gaussian.antithetic import pairs
from vi_compare.gaussian.gaussians import FullRank, Gaussian, MeanField, Regression, signal
from vi_compare.scores import Scores

FEWEST, MOST = 10, 150  # steps
AIM, ENOUGH = 3e-4, 1e-2  # nats left: where to stop, and what still counts as converged
CHEAP = 20_000  # draws; so many may be spent on getting from `ENOUGH` to `AIM`
STILL = 2e-3  # nats that a step may still promise, beyond its noise
FARTHEST = 0.5  # nats of KL between two steps
WINDOW = 20  # steps whose noise is averaged
LOST = 0.1  # share of draws without a finite log p at which a step means nothing


@dataclass
class Polish:
    """How it went.

    Attributes:
        gaussian: where it ended.
        losses: −ELBO in nats at every step, each on its own draws.
        left: estimated excess over the optimum in nats.
        moving: whether it had not come to rest.
        steps_of: what the steps were.
        trouble: "" or why it broke off.
    """

    gaussian: Gaussian
    losses: list[float] = field(default_factory=list)
    left: float = np.inf
    moving: bool = True
    trouble: str = ""
    steps_of: str = "natural gradient"

    @property
    def steps(self) -> int:
        return len(self.losses)

    @property
    def converged(self) -> bool:
        return not self.trouble and not self.moving and self.left < ENOUGH


def polish(
    start: FullRank | MeanField,
    scores: Scores,
    rng: np.random.Generator,
    tell: Callable[[int, float], None],
) -> Polish:
    """From near the optimum to it; `tell(step, loss)` is called after every step."""
    q, state, seen = start, Polish(start), []
    draws = start.draws
    for k in range(MOST):
        e = pairs(rng, draws, scores.dim)
        log_p, slopes = scores(q.points(e))
        both = np.isfinite(log_p).reshape(2, -1).all(axis=0)
        if both.mean() < 1 - LOST:
            state.trouble = f"log p is not finite at {(~both).mean():.0%} of the draws"
            return state
        rows = np.tile(both, 2)
        found = q.regress(e[rows], slopes[rows])
        if not np.isfinite(found.signal + found.noise):
            state.trouble = "gradients of log p are too large to be squared"
            return state
        state.losses.append(-float(log_p[rows].mean() + q.entropy))
        seen.append(found)
        state.gaussian = q = _step(q, found, min(0.5, 2 / (k + 4)))
        _judge(state, seen)
        tell(k + 1, state.losses[-1])
        enough = AIM if (k + 1) * draws < CHEAP else ENOUGH
        if k + 1 >= FEWEST and not state.moving and state.left < enough:
            break
    return state


def _step(q: FullRank | MeanField, found: Regression, size: float) -> FullRank | MeanField:
    new, kl = q.stepped(found, size)
    while kl > FARTHEST:
        size *= 0.7
        new, kl = q.stepped(found, size)
    return new


def _judge(state: Polish, seen: list[Regression]) -> None:
    """Steps of 2/(k + 4) leave 4/(3(k + 1)) of one step's noise; and over the last half the
    mean of the regressions must vanish within their noise."""
    noise = float(np.mean([one.noise for one in seen[-WINDOW:]]))
    state.left = 4 / 3 * noise / len(seen)
    half = seen[len(seen) // 2 :]
    a = np.mean([one.intercept for one in half], axis=0)
    slope = np.mean([one.slope for one in half], axis=0)
    state.moving = signal(a, slope) > STILL + 2 * noise / len(half)
