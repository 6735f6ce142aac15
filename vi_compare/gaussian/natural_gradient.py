"""Polish, the refinement that ends a Gaussian fit: natural gradients on fresh draws, until
what is left to gain is less than anybody can see.

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

# A fit with less than this left to gain, in nats, counts as converged.
ENOUGH = 1e-2
# A stage gives up where more than this share of its draws has no finite log p: what the others
# say no longer stands for q.
LOST = 0.1


@dataclass(frozen=True)
class PolishTuning:
    """Tunables of `polish`.

    Attributes:
        fewest: minimum number of steps; before that the judgement rests on too few.
        most: maximum number of steps.
        aim: nats left at which to stop while draws are cheap.
        cheap: draws that may be spent on getting from `ENOUGH` to `aim`.
        still: a step may promise this many nats beyond its noise in a fit that is at rest.
        farthest: maximum KL between the Gaussians of two steps, in nats; longer steps are
            shortened, as the regression holds near its draws only.
        window: number of last steps whose noise is averaged.
    """

    fewest: int = 10
    most: int = 150
    aim: float = 3e-4
    cheap: int = 20_000
    still: float = 2e-3
    farthest: float = 0.5
    window: int = 20


@dataclass
class Polish:
    """How the last stage of a fit went.

    Attributes:
        gaussian: the Gaussian at its end.
        losses: −ELBO in nats at every step, each on its own draws.
        left: estimated excess of the loss over the optimum, in nats.
        moving: whether it had not come to rest.
        trouble: "" or why it broke off.
        steps_of: name of the method whose steps `losses` counts.
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
    tuning: PolishTuning = PolishTuning(),
) -> Polish:
    """From near the optimum to it; `tell(step, loss)` is called after every step."""
    q, state, seen = start, Polish(start), []
    draws = start.draws
    for k in range(tuning.most):
        e = pairs(rng, draws, scores.dim)
        log_p, gradients = scores(q.points(e))
        both = np.isfinite(log_p).reshape(2, -1).all(axis=0)
        if both.mean() < 1 - LOST:
            state.trouble = f"log p is not finite at {(~both).mean():.0%} of the draws"
            return state
        rows = np.tile(both, 2)
        found = q.regress(e[rows], gradients[rows])
        if not np.isfinite(found.signal + found.noise):
            state.trouble = "gradients of log p are too large to be squared"
            return state
        state.losses.append(-float(log_p[rows].mean() + q.entropy))
        seen.append(found)
        state.gaussian = q = _step(q, found, min(0.5, 2 / (k + 4)), tuning.farthest)
        _judge(state, seen, tuning)
        tell(k + 1, state.losses[-1])
        enough = tuning.aim if (k + 1) * draws < tuning.cheap else ENOUGH
        if k + 1 >= tuning.fewest and not state.moving and state.left < enough:
            break
    return state


def _step(
    q: FullRank | MeanField, found: Regression, size: float, farthest: float
) -> FullRank | MeanField:
    """The step of `size`, shortened until it is no longer than `farthest` nats."""
    new, kl = q.stepped(found, size)
    while kl > farthest:
        size *= 0.7
        new, kl = q.stepped(found, size)
    return new


def _judge(state: Polish, seen: list[Regression], tuning: PolishTuning) -> None:
    """Set what is left to gain, and whether q still moves.

    Steps of 2/(k + 4) leave 4/(3(k + 1)) of one step's noise. A fit is at rest when the mean of
    the regressions over the last half of the steps vanishes within their noise.
    """
    noise = float(np.mean([one.noise for one in seen[-tuning.window :]]))
    state.left = 4 / 3 * noise / len(seen)
    half = seen[len(seen) // 2 :]
    a = np.mean([one.intercept for one in half], axis=0)
    slope = np.mean([one.slope for one in half], axis=0)
    state.moving = signal(a, slope) > tuning.still + 2 * noise / len(half)
