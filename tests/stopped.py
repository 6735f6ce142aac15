"""Fits by a stochastic optimiser that was stopped early, and how far they were from the end.

Gaussian guides under reverse KL on targets of known density, in scales that Adam's steps fit
and in scales that they do not. Their best objective comes from quadrature with many fixed
draws and a deterministic search (`scipy`), and is a closed form where the target is Gaussian.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, cached_property

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import planted
from numpyro.infer.autoguide import AutoMultivariateNormal, AutoNormal
from scipy.optimize import minimize
from scipy.stats import qmc

from vi_compare import catalogue
from vi_compare.divergences.reverse_kl import ReverseKL
from vi_compare.evidence import Evidence
from vi_compare.gaussian.natural_gradient import ENOUGH
from vi_compare.solvers import Fit, Problem, svi
from vi_compare.solvers._asked import asked
from vi_compare.target import Target
from vi_compare.verdict import judge

# What "not converged" says is true from here on, in nats.
THRESHOLD = ENOUGH
# (steps, learning rate), from the earliest stop to the package's own settings.
STOPS = ((1_200, 0.005), (4_000, 0.005), (1_200, 0.05), (20_000, 0.05))
NODES = 2**14


@dataclass(frozen=True)
class Task:
    """A target, a guide, and `excess` (fit) -> nats that the same guide could still gain."""

    name: str
    target: Target
    guide: Callable
    excess: Callable[[np.ndarray, np.ndarray], float]

    def fit(self, steps: int, learning_rate: float, seed: int) -> Fit:
        solver, key = svi.build(steps, learning_rate), jax.random.key(seed)
        guide = self.guide(self.target.model)
        problem = Problem.of(self.target, guide, ReverseKL(), key, restarts=1)
        return asked(problem, solver.solve(problem))

    def gap(self, fit: Fit) -> float:
        q = fit.approximation
        mixture = q.family.to_mixture(q.params, q.target)
        return self.excess(*(np.asarray(a)[0] for a in (mixture.means, mixture.covariances)))


@dataclass(frozen=True)
class Case:
    """A fit that was stopped, how it was judged, and what was true of it.

    Attributes:
        task: of which target and guide.
        gap: nats that the same guide could still gain.
        falling: whether the loss alone would say that it has not arrived.
        judged: without a reference, by what the solver says and the scores of the fit.
    """

    task: str
    gap: float
    falling: bool
    judged: planted.Case

    @property
    def named(self) -> bool:
        return self.judged.verdict.word == "Not converged"


def case(task: Task, steps: int, learning_rate: float, seed: int) -> Case:
    """Fit, judge, and hold against what is true."""
    fit = task.fit(steps, learning_rate, seed)
    draws = fit.approximation.sample(jax.random.key(seed + 1), planted.N)
    evidence = Evidence(draws, None, None, planted.LOG_Z)
    scores = {m: catalogue.load("metrics", m).measure(evidence) for m in ("khat", "elbo")}
    judged = planted.Case(judge(fit.status, fit.message, scores, abouts=planted.ABOUTS), (), scores)
    return Case(task.name, task.gap(fit), fit.settings["polish_steps"] == steps, judged)


class MeanFieldGap:
    """The excess of a mean-field Gaussian, on draws that all of them share."""

    def __init__(self, target: Target):
        uniform = qmc.Sobol(target.dim, rng=np.random.default_rng(0)).random(NODES // 2)
        half = np.asarray(jax.scipy.special.ndtri(jnp.clip(uniform, 1e-9, 1 - 1e-9)))
        half = half / np.sqrt((half**2).mean(axis=0))
        nodes = jnp.concatenate([half, -half])

        def loss(theta):
            mean, log_sd = jnp.split(theta, 2)
            u = mean + jnp.exp(log_sd) * nodes
            return -jax.vmap(target.log_density)(u).mean() - log_sd.sum()

        self.loss = jax.jit(jax.value_and_grad(loss))
        self.dim = target.dim

    @cached_property
    def best(self) -> float:
        found = [self._from(scale) for scale in (0.3, 1.0)]
        return min(found)

    def _from(self, scale: float) -> float:
        theta = np.r_[np.zeros(self.dim), np.full(self.dim, np.log(scale))]
        options = {"maxiter": 5_000, "maxfun": 20_000, "ftol": 1e-14, "gtol": 1e-8}
        return minimize(self.loss, theta, jac=True, method="L-BFGS-B", options=options).fun

    def __call__(self, mean: np.ndarray, covariance: np.ndarray) -> float:
        theta = np.r_[mean, np.log(np.diag(covariance)) / 2]
        return float(self.loss(theta)[0]) - self.best


def _gaussian_gap(centre: np.ndarray, precision: np.ndarray, best: float) -> Callable:
    """KL of N(mean, covariance) to N(centre, precision⁻¹), less that of the best of its kind."""

    def excess(mean, covariance):
        # Scaled to a unit diagonal, so that no digit is lost to scales.
        scale = np.sqrt(np.diag(covariance))
        precise = precision * np.outer(scale, scale)
        spread = covariance / np.outer(scale, scale)
        off = (mean - centre) / scale
        dets = np.linalg.slogdet(precise)[1] + np.linalg.slogdet(spread)[1]
        kl = (np.trace(precise @ spread) + off @ precise @ off - len(off) - dets) / 2
        return float(kl) - best

    return excess


def _gaussian(name: str, guide: Callable, sds, correlation: float) -> Task:
    """Correlations r^|i − j|, the mean three of its standard deviations from 0."""
    sds = np.asarray(sds, float)
    centre = 3 * sds * np.where(np.arange(len(sds)) % 2, 1, -1)
    tril = sds[:, None] * np.linalg.cholesky(planted._chain(len(sds), correlation))

    def model():
        numpyro.sample("x", dist.MultivariateNormal(centre, scale_tril=tril))

    inverse = np.linalg.inv(tril)
    precision = inverse.T @ inverse
    log_det = 2 * np.log(np.diag(tril)).sum()
    mean_field = (np.log(np.diag(precision)).sum() + log_det) / 2  # its least KL
    best = 0.0 if guide is AutoMultivariateNormal else mean_field
    return Task(name, Target(model), guide, _gaussian_gap(centre, precision, best))


def _mean_field(name: str, target: Target) -> Task:
    return Task(name, target, AutoNormal, MeanFieldGap(target))


def skewed() -> Target:
    return Target(lambda: numpyro.sample("rate", dist.Gamma(2.0, 0.1)))


@cache
def tasks() -> tuple[Task, ...]:
    uneven = np.geomspace(0.01, 1_000, 5)
    return (
        _mean_field("skewed, 1-D", skewed()),
        _mean_field("banana, 2-D", planted.banana().target),
        _mean_field("Student t, 3-D", planted.student().target),
        _mean_field("constrained, 4-D", planted.constrained().target),
        _gaussian("correlated, 5-D, mvn", AutoMultivariateNormal, np.ones(5), 0.8),
        _gaussian("scales of 0.01 to 1,000, 5-D", AutoNormal, uneven, 0.8),
        _gaussian("the same, mvn", AutoMultivariateNormal, uneven, 0.8),
        _mean_field("funnel, 10-D", planted.funnel().target),
        _gaussian("near singular, 10-D", AutoNormal, np.ones(10), 0.99),
        _gaussian("scale of 300, 50-D", AutoNormal, np.full(50, 300.0), 0.5),
        _gaussian("correlated, 50-D", AutoNormal, np.ones(50), 0.8),
    )
