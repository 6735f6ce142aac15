"""Approximations with one known defect each, and what is true of them.

Targets whose exact draws over u are known; defects that change them in one way, in
known density; and `truth`, a naive version of what every rule of the verdict looks at, on five
times the draws. A verdict that says otherwise than the truth is wrong.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cache, cached_property, partial
from zlib import crc32

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
from scipy.stats import multivariate_normal, multivariate_t, norm, spearmanr

from vi_compare import catalogue
from vi_compare.estimate import ALL, Estimate, margins
from vi_compare.evidence import Draws, Evidence
from vi_compare.metrics import abouts
from vi_compare.psis import khat_limit
from vi_compare.reference.basins import check_basins
from vi_compare.reference.modes import FoundModes, find_modes
from vi_compare.target import Target
from vi_compare.verdict import RULES, Verdict, judge

N = 20_000
ABOUTS = abouts()
LOG_Z = Estimate(0.0, 0.0, "nats")  # of every known target
TRUTH_DRAWS = 100_000

# --- targets ------------------------------------------------------------------------


@dataclass(frozen=True)
class Known:
    """A target whose exact draws over u (n, d) ``draw(rng, n)`` gives.

    `component` (n, d) -> (n,), where there are modes: which one a point belongs to.
    `correlated`, where there is such a thing: the same law with all correlations times a
    factor, as a sampler and a log density.
    """

    name: str
    target: Target
    draw: Callable
    component: Callable | None = None
    correlated: Callable | None = None

    @cached_property
    def moments(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Mean, sd and the 3 % and 97 % quantiles over u, (d,) each."""
        u = self.draw(np.random.default_rng(1), TRUTH_DRAWS)
        return u.mean(0), u.std(0), *np.quantile(u, [0.03, 0.97], axis=0)

    def log_p(self, u: np.ndarray) -> np.ndarray:
        return np.asarray(_log_p(self.target, jnp.asarray(u)))


@partial(jax.jit, static_argnums=0)
def _log_p(target: Target, u):
    return jax.vmap(target.log_density)(u)


def _mixture_model(weights, means, trils):
    parts = dist.MultivariateNormal(means, scale_tril=trils)
    numpyro.sample("x", dist.MixtureSameFamily(dist.Categorical(weights), parts))


def mixture(name: str, weights, means, covariances) -> Known:
    """A Gaussian mixture with modes far apart."""
    weights, means = np.asarray(weights, float), np.asarray(means, float)
    trils = np.linalg.cholesky(covariances)

    def draw(rng, n, weights=weights, factor=1.0):
        member = rng.choice(len(weights), n, p=weights)
        u = rng.normal(size=(n, means.shape[1]))
        for k, root in enumerate(_roots(covariances, factor)):
            u[member == k] = means[k] + u[member == k] @ root.T
        return u

    def log_parts(u, factor=1.0):
        return _log_parts(u, means, _roots(covariances, factor))

    def correlated(factor):
        log_q = lambda u: np.logaddexp.reduce(log_parts(u, factor) + np.log(weights)[:, None])
        return partial(draw, factor=factor), log_q

    target = Target(_mixture_model, kwargs={"weights": weights, "means": means, "trils": trils})
    related = correlated if means.shape[1] > 1 else None
    return Known(name, target, draw, lambda u: log_parts(u).argmax(0), related)


def _roots(covariances, factor: float) -> np.ndarray:
    """Cholesky factors with the correlations times `factor`."""
    diagonal = np.einsum("kii->ki", covariances)[:, :, None] * np.eye(covariances.shape[1])
    return np.linalg.cholesky(factor * covariances + (1 - factor) * diagonal)


def _log_parts(u, means, trils) -> np.ndarray:
    """(K, n) log densities of the parts of a Gaussian mixture."""
    parts = [multivariate_normal(m, t @ t.T) for m, t in zip(means, trils, strict=True)]
    return np.stack([part.logpdf(u).reshape(len(u)) for part in parts])


def _chain(d: int, r: float) -> np.ndarray:
    """Correlations r^|i − j|."""
    return r ** np.abs(np.subtract.outer(np.arange(d), np.arange(d)))


def peaks(weights=(0.3, 0.4, 0.3)) -> Known:
    return mixture("peaks, 1-D", weights, [[-2.0], [0.0], [2.0]], np.full((3, 1, 1), 0.09))


def pair(weights=(0.4, 0.6)) -> Known:
    covariances = np.stack([[[1.0, 0.8], [0.8, 1.0]], [[1.0, 0.8], [0.8, 1.5]]])
    return mixture("pair, 2-D", weights, [[-4.0, 2.0], [3.0, -3.0]], covariances)


def four(weights=(0.15, 0.2, 0.3, 0.35)) -> Known:
    means = np.zeros((4, 10))
    means[np.arange(4), np.arange(4)] = 7.0
    return mixture("four modes, 10-D", weights, means, np.stack([_chain(10, 0.5)] * 4))


def gauss(d: int) -> Known:
    return mixture(f"correlated, {d}-D", [1.0], np.zeros((1, d)), _chain(d, 0.8)[None])


def student() -> Known:
    scale, df = _chain(3, 0.6), 5.0

    def model():
        numpyro.sample("x", dist.MultivariateStudentT(df, jnp.zeros(3), np.linalg.cholesky(scale)))

    def law(factor):
        return multivariate_t(np.zeros(3), factor * scale + (1 - factor) * np.eye(3), df)

    def draw(rng, n):
        return law(1.0).rvs(n, random_state=rng)

    def correlated(factor):
        return lambda rng, n: law(factor).rvs(n, random_state=rng), law(factor).logpdf

    return Known("Student t, 3-D", Target(model), draw, correlated=correlated)


def banana() -> Known:
    def model():
        x = numpyro.sample("x", dist.Normal(0.0, 1.5))
        numpyro.sample("y", dist.Normal(0.5 * x**2, 0.7))

    def draw(rng, n):
        x = 1.5 * rng.normal(size=n)
        return np.stack([x, 0.5 * x**2 + 0.7 * rng.normal(size=n)], axis=1)

    return Known("banana, 2-D", Target(model), draw)


def funnel() -> Known:
    def model():
        v = numpyro.sample("v", dist.Normal(0.0, 3.0))
        numpyro.sample("x", dist.Normal(0.0, jnp.exp(v / 2)).expand([9]).to_event(1))

    def draw(rng, n):
        v = 3.0 * rng.normal(size=(n, 1))
        return np.concatenate([v, np.exp(v / 2) * rng.normal(size=(n, 9))], axis=1)

    return Known("funnel, 10-D", Target(model), draw)


def constrained() -> Known:
    def model():
        numpyro.sample("rate", dist.Gamma(2.0, 1.0))
        numpyro.sample("share", dist.Beta(2.0, 5.0))
        numpyro.sample("shares", dist.Dirichlet(jnp.array([3.0, 4.0, 5.0])))

    target = Target(model)

    def draw(rng, n):
        values = {
            "rate": rng.gamma(2.0, size=n),
            "share": rng.beta(2.0, 5.0, size=n),
            "shares": rng.dirichlet([3.0, 4.0, 5.0], size=n),
        }
        return np.asarray(target.draws(values).u)

    return Known("constrained, 4-D", target, draw)


@cache
def targets() -> tuple[Known, ...]:
    several = peaks(), pair(), four()
    return (*several, gauss(5), gauss(50), student(), banana(), funnel(), constrained())


# --- defects ------------------------------------------------------------------------


@dataclass(frozen=True)
class Planted:
    """An approximation: ``draw(rng, n)`` over u (n, d), and ``log_q(u)`` (n,)."""

    draw: Callable
    log_q: Callable


def mapped(known: Known, forth: Callable, back: Callable) -> Planted:
    """The law of forth(u), u from the target; ``back(u)`` gives the inverse and the log
    Jacobian (n,) of that."""

    def log_q(u):
        before, jacobian = back(u)
        return known.log_p(before) + jacobian

    return Planted(lambda rng, n: forth(known.draw(rng, n)), log_q)


def perfect(known: Known, strength: float) -> Planted:
    return Planted(known.draw, known.log_p)


def shifted(known: Known, strength: float) -> Planted:
    """The first coordinate, by `strength` standard deviations."""
    move = np.zeros(known.target.dim)
    move[0] = strength * known.moments[1][0]
    return mapped(known, lambda u: u + move, lambda u: (u - move, 0.0))


def scaled(known: Known, strength: float) -> Planted:
    """All coordinates about the mean, by `strength`."""
    mean, log_det = known.moments[0], -known.target.dim * np.log(strength)
    forth = lambda u: mean + strength * (u - mean)
    return mapped(known, forth, lambda u: (mean + (u - mean) / strength, log_det))


def tails(known: Known, strength: float) -> Planted:
    """Beyond the 3 % and 97 % quantiles of the first coordinate, distances times `strength`."""
    low, high = (quantiles[0] for quantiles in known.moments[2:])

    def stretch(u, k):
        x = u[:, 0]
        inner = np.clip(x, low, high)
        out = np.array(u)
        out[:, 0] = inner + k * (x - inner)
        return out, np.where(x == inner, 0.0, np.log(k))

    return mapped(known, lambda u: stretch(u, strength)[0], lambda u: stretch(u, 1 / strength))


def invented(known: Known, strength: float) -> Planted:
    """A share `strength` of the draws in a blob six standard deviations off."""
    mean, sd = known.moments[:2]
    away = mean + 6 * sd / np.sqrt(len(sd)) * np.where(np.arange(len(sd)) % 2, 1, -1)
    width = 0.3 * sd

    def draw(rng, n):
        u = known.draw(rng, n)
        stray = rng.random(n) < strength
        return np.where(stray[:, None], away + width * rng.normal(size=u.shape), u)

    def log_q(u):
        blob = norm(away, width).logpdf(u).sum(1)
        return np.logaddexp(np.log1p(-strength) + known.log_p(u), np.log(strength) + blob)

    return Planted(draw, log_q)


def uncorrelated(known: Known, strength: float) -> Planted:
    """A share `strength` of every correlation is lost."""
    return Planted(*known.correlated(1 - strength))


def dropped(known: Known, strength: float) -> Planted:
    """The first mode is missing; `strength`, its mass, is the target's own."""
    return _reweighted(known, np.r_[0.0, _weights(known)[1:]])


def misweighted(known: Known, strength: float) -> Planted:
    """The odds of the first mode, times exp(−strength)."""
    weights = _weights(known)
    return _reweighted(known, np.r_[weights[0] * np.exp(-strength), weights[1:]])


def _weights(known: Known) -> np.ndarray:
    return np.asarray(known.target.kwargs["weights"])


def _reweighted(known: Known, weights: np.ndarray) -> Planted:
    weights = weights / weights.sum()
    means, trils = (np.asarray(known.target.kwargs[k]) for k in ("means", "trils"))

    kept = weights > 0
    log_w = np.log(weights[kept])[:, None]
    log_q = lambda u: np.logaddexp.reduce(_log_parts(u, means[kept], trils[kept]) + log_w)
    return Planted(partial(known.draw, weights=weights), log_q)


@dataclass(frozen=True)
class Defect:
    """One way to be wrong: `words` that name it, `plant`, and the strengths that are tried."""

    name: str
    words: tuple[str, ...]
    plant: Callable[[Known, float], Planted]
    strengths: tuple[float, ...]
    of: Callable[[float], tuple[Known, ...]]


def _everywhere(strength: float) -> tuple[Known, ...]:
    return targets()


def _with_modes(strength: float) -> tuple[Known, ...]:
    return tuple(k for k in targets() if k.component and len(_weights(k)) > 1)


def _with_correlation(strength: float) -> tuple[Known, ...]:
    return tuple(k for k in targets() if k.correlated and k.name != "four modes, 10-D")


@cache
def _with_a_mode_of(mass: float) -> tuple[Known, ...]:
    rest = lambda k: (mass, *[(1 - mass) / (k - 1)] * (k - 1))
    return peaks(rest(3)), pair(rest(2)), four(rest(4))


DEFECTS = (
    Defect("none", (), perfect, (0.0,), _everywhere),
    Defect(
        "dropped mode", ("Misses modes",), dropped, (0.02, 0.05, 0.1, 0.2, 0.5), _with_a_mode_of
    ),
    Defect(
        "wrong mode weights", ("Wrong mode weights",), misweighted, (0.2, 0.6, 1.2, 2.0, 3.0),
        _with_modes,
    ),
    Defect("invented mass", ("Invents mass",), invented, (0.02, 0.05, 0.1, 0.2, 0.4), _everywhere),
    Defect("shrunk", ("Too sure",), scaled, (0.95, 0.9, 0.8, 0.7, 0.5), _everywhere),
    Defect("inflated", ("Too diffuse",), scaled, (1.05, 1.1, 1.25, 1.5, 2.0), _everywhere),
    Defect("shifted mean", ("Shifted",), shifted, (0.05, 0.1, 0.2, 0.5, 1.0), _everywhere),
    Defect(
        "lost correlation", ("Loses dependence",), uncorrelated, (0.1, 0.4, 0.7, 0.85, 1.0),
        _with_correlation,
    ),
    Defect("light tails", ("Light tails",), tails, (0.9, 0.7, 0.5, 0.3, 0.1), _everywhere),
    Defect("heavy tails", ("Heavy tails",), tails, (1.2, 1.5, 2.0, 4.0, 8.0), _everywhere),
)  # fmt: skip


# --- what is true --------------------------------------------------------------------


def truth(known: Known, planted: Planted) -> dict[str, np.ndarray]:
    """{metric: a value per margin, mode or pair} of all that a rule looks at, by naive formulas."""
    rng = np.random.default_rng(2)
    p, q = known.draw(rng, TRUTH_DRAWS), planted.draw(rng, TRUTH_DRAWS)
    values = [margins(known.target.complete(jnp.asarray(u)).values) for u in (p, q)]
    labels = list(values[0])
    x, y = (np.stack([v[label] for label in labels]) for v in values)
    width = [np.subtract(*np.quantile(z, [0.95, 0.05], axis=1)) for z in (x, y)]
    ends = np.quantile(x, [0.005, 0.995], axis=1)[..., None]
    beyond = np.concatenate([(y < ends[0]).mean(1), (y > ends[1]).mean(1)]) / 0.005
    out = {
        "width_ratio": (width[1] / width[0]),
        "mean_shift": np.abs((y.mean(1) - x.mean(1)) / x.std(1)),
        "tail_mass": beyond,
        "missed_mass": _below(planted.log_q(p), planted.log_q(q)),
        "invented_mass": _below(known.log_p(q), known.log_p(p)),
    }
    if len(labels) > 1:
        some = slice(None, TRUTH_DRAWS // 4)
        ranks = [np.atleast_2d(spearmanr(z[:, some], axis=1).statistic) for z in (x, y)]
        if len(labels) > 2:
            out["correlation"] = np.abs(np.triu(ranks[1] - ranks[0], 1))
        else:
            out["correlation"] = np.abs(ranks[1] - ranks[0])
    if known.component:
        shares = [np.bincount(known.component(u), minlength=4) / len(u) for u in (p, q)]
        held = shares[0] > 0.01
        out["mode_coverage"] = shares[1][held] / shares[0][held]
        out["mode_distance"] = _distance(*shares)
    return {k: np.ravel(v) for k, v in out.items()}


def _below(values, reference) -> float:
    return float((values < np.quantile(reference, 0.01)).mean())


def _distance(a, b) -> float:
    """√ of the Jensen-Shannon divergence in bits, as its definition has it."""
    middle = (a + b) / 2
    half = lambda x: sum(s * np.log2(s / m) for s, m in zip(x, middle, strict=True) if s > 0)
    return float(np.sqrt(max(0.0, (half(a) + half(b)) / 2)))


def past(rule, true: Mapping[str, np.ndarray], times: float = 1.0) -> bool:
    """Whether a rule's statistic is past its threshold, or even `times` as far from perfect.

    Shares that should not vanish (coverage of a mode, mass of a tail) can only be so small:
    there "times as far" is a `times`-th of the threshold.
    """
    values = true.get(rule.metric)
    if values is None:
        return False
    threshold, about = rule.limit(ABOUTS[rule.metric]), ABOUTS[rule.metric]
    limit = about.perfect + times * (threshold - about.perfect)
    if rule.side < 0:
        vanishing = rule.metric in ("mode_coverage", "tail_mass")
        return bool(values.min() < (threshold / times if vanishing else limit))
    return bool(values.max() > limit)


# --- what the package says -------------------------------------------------------------

METRICS = (*dict.fromkeys(rule.metric for rule in RULES), "khat", "elbo")


@dataclass(frozen=True)
class Case:
    """One approximation, measured and judged."""

    verdict: Verdict
    doubts: tuple[str, ...]
    scores: Mapping

    @property
    def words(self) -> tuple[str, ...]:
        return (self.verdict.word, *self.verdict.also)

    @property
    def khat_alone(self) -> bool:
        """Whether k̂ alone would say that something is wrong."""
        khat = self.scores["khat"][ALL]
        if khat.value is None:
            return "equal" not in khat.reason
        return khat.value > khat_limit(khat.n or 0)

    @property
    def elbo_alone(self) -> bool:
        """Whether the ELBO alone would, if log Z = 0 were known: a tenth of a nat is missing."""
        elbo = self.scores["elbo"][ALL]
        return elbo.value is None or elbo.value + 3 * elbo.standard_error < -0.1


def exact(known: Known, rng: np.random.Generator) -> tuple[Draws, Draws]:
    """Draws to measure on, and others for noise floors."""
    complete = lambda u: known.target.complete(jnp.asarray(u))
    return complete(known.draw(rng, N)), complete(known.draw(rng, N))


def cases(
    known: Known,
    planted: Mapping[str, Planted],
    seed: int,
    reference: tuple[Draws, Draws] | None = None,
) -> dict[str, Case]:
    """Judge several approximations of one target, as a run would, on one reference; by default
    exact draws."""
    rng = np.random.default_rng([seed, crc32(known.name.encode())])
    complete = lambda u: known.target.complete(jnp.asarray(u))
    test, floor = reference or exact(known, rng)
    drawn = {}
    for name, q in planted.items():
        draws = complete(q.draw(rng, N))
        drawn[name] = Draws(draws.u, draws.values, draws.log_p, q.log_q(np.asarray(draws.u)))
    modes = find_modes(known.target, {"test": test, "floor": floor, **drawn})
    return {name: _case(name, q, drawn[name], test, floor, modes) for name, q in planted.items()}


def _case(name, q: Planted, draws: Draws, test: Draws, floor: Draws, modes) -> Case:
    at = replace(test, log_q=q.log_q(np.asarray(test.u)))
    found = isinstance(modes, FoundModes)  # a funnel's are given up, as in a run
    evidence = Evidence(draws, at, floor, LOG_Z, modes.seen_by(name) if found else None)
    scores = measured(evidence)
    doubts: tuple[str, ...] = ()
    if found and len(modes.names) > 1:
        n = len(modes.members[name])
        log_w = (np.asarray(draws.log_p) - np.asarray(draws.log_q))[:n]
        doubts = check_basins(modes, {name: log_w}, LOG_Z).doubts
    return Case(judge("converged", "", scores, abouts=ABOUTS), doubts, scores)


def measured(evidence: Evidence) -> dict[str, dict[str, Estimate]]:
    """The scores that the verdict looks at."""
    named = lambda metric: catalogue.load("metrics", metric.replace("_", "-"))
    return {metric: dict(named(metric).measure(evidence)) for metric in METRICS}


# --- a reference of Markov chains -----------------------------------------------------------


def gaussian_draws(u: np.ndarray, number: int = 0) -> Draws:
    """Draws (n, d) of N(0, I), both as target and as fit, perhaps so many chains."""
    log_density = -0.5 * (u**2).sum(axis=1)
    return Draws(u, {"x": u}, log_density, log_density, chains=number)


def chains(rng, d: int, n: int = 2_000, number: int = 4, correlation: float = 0.5) -> np.ndarray:
    """AR(1) chains (n, d) with N(0, I) as their law, one after another."""
    noise = rng.normal(size=(number, n // number, d))
    x = np.array(noise)
    for t in range(1, x.shape[1]):
        x[:, t] = correlation * x[:, t - 1] + np.sqrt(1 - correlation**2) * noise[:, t]
    return x.reshape(n, d)
