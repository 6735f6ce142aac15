"""log Z of a target by bridge sampling between its draws and those of an approximation.

Meng and Wong (1996), with the optimal bridge found by iteration; its error from
Frühwirth-Schnatter (2004, "Estimating marginal likelihoods for mixture and Markov
switching models using bridge sampling techniques", eq. 23).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import IntEnum
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from scipy.stats import multivariate_t

from vi_compare.estimate import Estimate
from vi_compare.evidence import Draws, effective
from vi_compare.formatting import plain
from vi_compare.randomness import generator
from vi_compare.reference.copula import Copula
from vi_compare.target import Target
from vi_compare.verdict import Concern, Doubt


class OwnDraws(IntEnum):
    """Which of a proposal's own draws."""

    CHOOSING = 0
    FINAL = 1


@dataclass(frozen=True)
class Proposal:
    """What log Z can be bridged to.

    Attributes:
        at_pilot, at_final: log q at two sets of draws of the target, (n,) and (m,).
        own: (part, k) -> log p̃ − log q at k of its own draws (k,); those of one part are
            others than those of the other. Each costs an evaluation of log p, so that only what
            is needed is asked for.
    """

    at_pilot: np.ndarray
    at_final: np.ndarray
    own: Callable[[OwnDraws, int], np.ndarray]


@dataclass(frozen=True)
class LogZ:
    """The target's log normaliser.

    Attributes:
        estimate: in nats.
        method: how it was found, in words; "" where it was not.
        doubts: what it tells against the reference.
    """

    estimate: Estimate
    method: str
    doubts: tuple[Doubt, ...] = ()

    @property
    def exact(self) -> bool:
        return self.estimate.standard_error == 0.0


def bridge(at_p: np.ndarray, at_q: np.ndarray, chains: int = 0, iterations: int = 1000) -> Estimate:
    """log Z in nats, from log-density ratios.

    Args:
        at_p, at_q: log p̃ − log q at draws of p (n,), +inf where q has no density, and at
            draws of q (m,).
        chains: number of Markov chains among the draws of p, whose ESS takes the place of
            n; 0 for independent draws.
        iterations: maximum number of fixed-point iterations; they end when log Z moves by
            less than 1e-10 nats.
    """
    at_p, at_q = (np.asarray(x, dtype=float) for x in (at_p, at_q))
    known = np.isfinite(at_p)
    if not known.any() or not (known | (at_p == np.inf)).all() or np.isnan(at_q).any():
        return Estimate.missing("a density is not known at some draws", "nats")
    n = effective(np.minimum(at_p, at_p[known].max()), chains)
    shares = np.log([n / (n + at_q.size), at_q.size / (n + at_q.size)])
    log_z = float(np.median(at_p[known]))  # an overestimate, but finite
    for _ in range(iterations):
        top, bottom = _bridged(at_p, at_q, shares, log_z)
        before, log_z = log_z, _log_mean(top) - _log_mean(bottom)
        if abs(log_z - before) < 1e-10:
            break
    top, bottom = _bridged(at_p, at_q, shares, log_z)
    f_q, f_p = np.exp(top - _log_mean(top)), np.exp(bottom - _log_mean(bottom))
    variance = f_q.var(ddof=1) / at_q.size + f_p.var(ddof=1) / effective(f_p, chains)
    return Estimate(log_z, float(np.sqrt(variance)), "nats", at_q.size)


def _bridged(at_p, at_q, shares, log_z: float) -> tuple[np.ndarray, np.ndarray]:
    """log of w/(s₁w + s₂Z) at draws of q, and of 1/(s₁w + s₂Z) at draws of p; w = p̃/q."""
    denominator = lambda log_w: np.logaddexp(shares[0] + log_w, shares[1] + log_z)
    return at_q - denominator(at_q), -denominator(at_p)


def _log_mean(x: np.ndarray) -> float:
    return float(np.logaddexp.reduce(x) - np.log(x.size))


def log_normaliser(
    pilot: Draws,
    final: Draws,
    proposals: Mapping[str, Proposal],
    n: int,
    most_error: float = 0.5,
    choosing: int = 2000,
) -> LogZ:
    """Bridge from `final` to the proposal with the smallest error on `pilot`; where that
    fails on `final`, to the next; where none will do, between the bounds of the best.

    Args:
        pilot, final: disjoint draws of the target; the choice is made on one, the number
            comes from the other, so that choosing costs no bias.
        proposals: {name: what may be bridged to}.
        n: draws of the proposal that is bridged to.
        most_error: largest standard error in nats of a log Z that is given: with less
            overlap of p and q than that, the error is itself a guess.
        choosing: draws of every proposal, at most, that the choice is made on.
    """
    few = min(n, choosing)
    tried = {
        name: bridge(
            np.asarray(pilot.log_p) - q.at_pilot, q.own(OwnDraws.CHOOSING, few), pilot.chains
        )
        for name, q in proposals.items()
    }
    usable = {name: e.standard_error for name, e in tried.items() if e.standard_error is not None}
    if not usable:
        why = "no fit has a density at all draws of the target, so log Z cannot be bridged"
        return LogZ(Estimate.missing(why, "nats"), "")
    least = np.inf
    for name in sorted(usable, key=lambda name: usable[name]):
        q = proposals[name]
        found = bridge(np.asarray(final.log_p) - q.at_final, q.own(OwnDraws.FINAL, n), final.chains)
        error = np.inf if found.standard_error is None else found.standard_error
        if error <= most_error:
            return LogZ(found, f"bridge sampling with {name}")
        least = min(least, error)
    if enclosed := _enclosed(final, proposals, n):
        return enclosed
    why = (
        f"log Z is not known: no fit overlaps the target enough to bridge to it (the best leaves "
        f"an error of {least:.2g} nats)"
    )
    return LogZ(Estimate.missing(why, "nats"), "")


def _enclosed(
    final: Draws, proposals: Mapping[str, Proposal], n: int, widest: float = 0.4
) -> LogZ | None:
    """log Z between ELBO and EUBO of the proposal where they are nearest, or None where that is
    further than `widest` nats; anywhere between is as likely, hence an error of width ÷ √12."""
    found = None
    for name, q in proposals.items():
        at_p, own = np.asarray(final.log_p) - q.at_final, q.own(OwnDraws.FINAL, n)
        if not (np.isfinite(at_p).all() and np.isfinite(own).all()):
            continue
        low, high = float(own.mean()), float(at_p.mean())
        if high - low <= widest:
            widest = max(0.0, high - low)
            errors = (
                own.std() / np.sqrt(own.size),
                at_p.std() / np.sqrt(effective(at_p, final.chains)),
                widest / np.sqrt(12),
            )
            middle = Estimate((low + high) / 2, float(np.linalg.norm(errors)), "nats", own.size)
            found = LogZ(middle, f"between the ELBO and the EUBO of {name}")
    return found


def held_to_bounds(found: LogZ, elbos: Mapping[str, Estimate], level: float = 5.0) -> LogZ:
    """The same where it is possible. E_q[log p̃ − log q] is a lower bound of log Z for every q:
    where one is above it, log Z is none, and the draws that it comes from are doubted.

    Args:
        elbos: {fit: its ELBO in nats}.
        level: standard errors by which one must be above it.
    """
    log_z = found.estimate
    if log_z.value is None or found.exact:
        return found
    above = {}
    for name, elbo in elbos.items():
        error = np.hypot(elbo.standard_error or 0.0, log_z.standard_error or 0.0)
        if elbo.value is not None and elbo.value - log_z.value > level * error:
            above[name] = elbo.value - log_z.value
    if not above:
        return found
    name = max(above, key=lambda fit: above[fit])
    words = (
        f"the ELBO of {name} is {plain(above[name])} nats above the log Z that the reference "
        f"gives, which no ELBO can be: it misses most of the target"
    )
    missing = Estimate.missing(f"log Z is refuted: {words}", "nats")
    return LogZ(missing, "", (Doubt(Concern.REFUTED, words),))


# --- what to bridge to where every fit is poor --------------------------------------


def own_proposals(
    target: Target,
    train: Draws,
    pilot: Draws,
    final: Draws,
    key: Array,
    per_dimension: int = 10,
) -> dict[str, Proposal]:
    """A Student t and a copula fitted to `train`; for `log_normaliser`.

    `per_dimension` draws per dimension are needed for a covariance that is near enough to
    bridge to; with fewer there is no proposal.
    """
    u = np.asarray(train.u)
    if len(u) < per_dimension * u.shape[1]:
        return {}
    made: dict[str, Callable[[np.ndarray], Any]] = {
        "a Student t": student,
        "a Gaussian copula": Copula.of,
    }
    out = {}
    for name, fit in made.items():
        try:
            q = fit(u)
        except np.linalg.LinAlgError:
            continue  # the draws lie in a subspace
        at_pilot, at_final = (q.log_prob(np.asarray(draws.u)) for draws in (pilot, final))
        own = partial(_ratios, target, q, key)
        out[f"{name} fitted to the reference"] = Proposal(at_pilot, at_final, own)
    return out


def _ratios(target: Target, q: Any, key: Array, part: OwnDraws, n: int) -> np.ndarray:
    """log p̃ − log q at n draws of q (n,)."""
    own = q.sample(generator(jax.random.fold_in(key, part)), n)
    return np.asarray(target.complete(jnp.asarray(own)).log_p) - q.log_prob(own)


class Student:
    """5 degrees of freedom: its tails are heavier than most."""

    def __init__(self, mean: np.ndarray, scale: np.ndarray):
        self.q = multivariate_t(mean, scale, df=5)

    def sample(self, rng: np.random.Generator, n: int) -> np.ndarray:
        return self.q.rvs(n, random_state=rng).reshape(n, -1)

    def log_prob(self, u: np.ndarray) -> np.ndarray:
        return self.q.logpdf(u)


def student(u: np.ndarray) -> Student:
    # A Student t has covariance df/(df − 2) times its scale matrix.
    return Student(u.mean(axis=0), np.atleast_2d(np.cov(u.T)) * 3 / 5)
