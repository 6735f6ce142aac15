"""Oracles in numpy and scipy only: nothing here has ever seen the package.

Mixtures on the line are (weights, means, sds), arrays (K,) each. Integrals are
trapezoidal sums over [-15, 15] in steps of 0.02: for integrands that are smooth
on the scale of 0.08 and vanish at both ends, that is exact to rounding.
"""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

import numpy as np
from scipy import optimize, special, stats

GRID = np.linspace(-15.0, 15.0, 1501)
STEP = GRID[1] - GRID[0]


class Line(NamedTuple):
    """A Gaussian mixture on the line: weights, means, sds, each (K,)."""

    weights: np.ndarray
    means: np.ndarray
    sds: np.ndarray

    def log_pdf(self, x: np.ndarray) -> np.ndarray:
        # Written out: a search asks a hundred thousand times, and SciPy checks each argument.
        z = (np.asarray(x)[..., None] - self.means) / self.sds
        with np.errstate(divide="ignore"):  # a component of no weight
            each = np.log(self.weights) - np.log(self.sds) - z**2 / 2
        top = each.max(axis=-1)
        return top + np.log(np.exp(each - top[..., None]).sum(axis=-1)) - np.log(2 * np.pi) / 2

    def pdf(self, x: np.ndarray) -> np.ndarray:
        return np.exp(self.log_pdf(x))

    def cdf(self, x):
        x = np.asarray(x)[..., None]
        return stats.norm.cdf(x, self.means, self.sds) @ np.asarray(self.weights)

    def quantile(self, level: float) -> float:
        return optimize.brentq(lambda x: float(self.cdf(x)) - level, -200.0, 200.0, xtol=1e-13)

    def mean(self) -> float:
        return float(np.dot(self.weights, self.means))

    def sd(self) -> float:
        second = np.dot(self.weights, np.square(self.sds) + np.square(self.means))
        return float(np.sqrt(second - self.mean() ** 2))

    def mirrored(self) -> Line:
        order = np.argsort(-np.asarray(self.means))
        return Line(*(np.asarray(a)[order] for a in (self.weights, -self.means, self.sds)))

    def sorted(self) -> Line:
        order = np.argsort(self.means)
        return Line(*(np.asarray(a)[order] for a in self))

    def draw(self, rng: np.random.Generator, n: int) -> np.ndarray:
        part = rng.choice(len(self.weights), n, p=self.weights)
        return self.means[part] + self.sds[part] * rng.normal(size=n)


THREE_PEAKS = Line(np.array([0.3, 0.4, 0.3]), np.array([-2.0, 0.0, 2.0]), np.array([0.3, 0.4, 0.3]))
_LOG_P = THREE_PEAKS.log_pdf(GRID)
_P = np.exp(_LOG_P)


def integral(values: np.ndarray) -> float:
    return float(values.sum() * STEP)


def expectation(q: Line, values: np.ndarray) -> float:
    """E_q of a function given by its values on GRID."""
    return integral(q.pdf(GRID) * values)


def reverse_kl(q: Line, p: Line = THREE_PEAKS) -> float:
    log_p = _LOG_P if p is THREE_PEAKS else p.log_pdf(GRID)
    log_q = q.log_pdf(GRID)
    return integral(np.exp(log_q) * (log_q - log_p))


def forward_kl(q: Line, p: Line = THREE_PEAKS) -> float:
    return reverse_kl(p, q) if p is not THREE_PEAKS else integral(_P * (_LOG_P - q.log_pdf(GRID)))


# Divergences of densities given on nodes: f(log p, log q, weights of the nodes, squared
# difference of the scores or None), with numpy or with anything that has its functions.
def _amari(alpha):
    def f(log_p, log_q, dx, apart, xp):
        power = xp.sum(dx * xp.exp(alpha * log_p + (1 - alpha) * log_q))
        return xp.log(power) / (alpha * (alpha - 1))

    return f


def _reverse(log_p, log_q, dx, apart, xp):
    return xp.sum(dx * xp.exp(log_q) * (log_q - log_p))


def _forward(log_p, log_q, dx, apart, xp):
    return xp.sum(dx * xp.exp(log_p) * (log_p - log_q))


def _jensen_shannon(log_p, log_q, dx, apart, xp):
    middle = xp.logaddexp(log_p, log_q) - xp.log(2.0)
    return (_forward(log_p, middle, dx, apart, xp) + _forward(log_q, middle, dx, apart, xp)) / 2


def _log_variance(log_p, log_q, dx, apart, xp):
    q = xp.exp(log_q)
    mean = xp.sum(dx * q * (log_q - log_p))
    return xp.sum(dx * q * (log_q - log_p - mean) ** 2) / 2


DIVERGENCES = {
    "reverse-kl": _reverse,
    "forward-kl": _forward,
    "alpha:-0.5": _amari(-0.5),
    "alpha:0.5": _amari(0.5),
    "alpha:2": _amari(2.0),
    "renyi:0.3": _amari(0.3),
    "cubo:2": lambda *a: _amari(2.0)(*a),  # (1/2) log E w²: the same at order 2
    "iwelbo:1": _reverse,
    "log-variance": _log_variance,
    "wake": _forward,
    "score-climbing": _forward,
    "jensen-shannon": _jensen_shannon,
    "jeffreys": lambda *a: _reverse(*a) + _forward(*a),
    "fisher": lambda log_p, log_q, dx, apart, xp: xp.sum(dx * xp.exp(log_q) * apart),
}


def divergence(label: str, q: Line, p: Line = THREE_PEAKS) -> float:
    """By quadrature, in nats; a million where it is past what a float holds."""
    log_p, log_q = p.log_pdf(GRID), q.log_pdf(GRID)
    apart = (score(p) - score(q)) ** 2 if label == "fisher" else None
    with np.errstate(over="ignore"):
        value = float(DIVERGENCES[label](log_p, log_q, np.full(len(GRID), STEP), apart, np))
    return value if np.isfinite(value) else 1e6


def score(q: Line, h: float = 1e-4) -> np.ndarray:
    """d log q/dx on GRID, by central differences: off by h² times the third derivative."""
    return (q.log_pdf(GRID + h) - q.log_pdf(GRID - h)) / (2 * h)


def mass_where(q: Line, where: np.ndarray) -> float:
    """q of a set given on GRID; off by at most a step's mass per edge of the set."""
    return integral(q.pdf(GRID) * where)


def density_quantile(p: Line, level: float) -> float:
    """c with P_p[log p(X) < c] = level, by bisection on the exact masses of {log p < c}."""
    return optimize.brentq(lambda c: mass_below(p, p, c) - level, -60.0, 1.0, xtol=1e-10)


def mass_below(where: Line, density: Line, c: float) -> float:
    """P_where[log density(X) < c], its edges found by interpolation, so exact to ~1e-8."""
    g = density.log_pdf(GRID) - c
    crossing = np.flatnonzero(np.sign(g[:-1]) != np.sign(g[1:]))
    f = lambda x: float(density.log_pdf(x)) - c
    edges = [optimize.brentq(f, GRID[i], GRID[i + 1], xtol=1e-13) for i in crossing]
    edges = [-np.inf, *edges, np.inf]
    below, total = g[0] < 0, 0.0
    for low, high in pairwise(edges):
        if below:
            total += float(where.cdf(high) - where.cdf(low))
        below = not below
    return total


def pack(q: Line) -> np.ndarray:
    """Two components -> (logit of the first weight, means, log sds)."""
    return np.concatenate([[special.logit(q.weights[0])], q.means, np.log(q.sds)])


def unpack(theta: np.ndarray) -> Line:
    w = special.expit(theta[0])
    return Line(np.array([w, 1 - w]), theta[1:3], np.exp(theta[3:5]))


def best_of_two(divergence, starts: int = 16, seed: int = 0) -> tuple[Line, float]:
    """The best two-component mixture under `divergence`, by multi-start BFGS."""
    rng = np.random.default_rng(seed)
    best, least = None, np.inf
    for _ in range(starts):
        start = np.concatenate(
            [rng.normal(size=1), rng.uniform(-3, 3, 2), rng.uniform(-1.5, 0.5, 2)]
        )
        # sds stay on the scale of the grid, and within it
        bounds = [(-6, 6), (-5, 5), (-5, 5), (-2.5, 1.0), (-2.5, 1.0)]
        found = optimize.minimize(
            lambda t: divergence(unpack(t)), start, method="L-BFGS-B", bounds=bounds
        )
        if found.fun < least - 1e-10:
            best, least = found.x, found.fun
    refined = optimize.minimize(
        lambda t: divergence(unpack(t)), best, method="Nelder-Mead",
        options={"xatol": 1e-8, "fatol": 1e-13, "maxiter": 4000, "maxfev": 4000},
    )  # fmt: skip
    return unpack(refined.x).sorted(), float(refined.fun)


def slope(f, theta: np.ndarray, step: float = 1e-5) -> np.ndarray:
    """Central differences; error of order step² times the third derivative, ~1e-9 here."""
    eye = np.eye(len(theta)) * step
    return np.array([(f(theta + e) - f(theta - e)) / (2 * step) for e in eye])


def textbook_em(
    x, weights, means, covariances, iterations: int, floor: float = 0.0, diagonal: bool = False
):
    """EM as in the books, one component and one point at a time where that is clearest.

    With `diagonal`, every M-step keeps the diagonal of the covariance alone.
    Returns the mixture after `iterations` and the mean log likelihood before each.
    """
    n, d = x.shape
    kept = np.eye(d) if diagonal else np.ones((d, d))
    trace = []
    for _ in range(iterations):
        log_joint = np.stack(
            [
                np.log(w) + stats.multivariate_normal(m, c).logpdf(x)
                for w, m, c in zip(weights, means, covariances, strict=True)
            ],
            axis=1,
        )
        log_q = special.logsumexp(log_joint, axis=1)
        trace.append(log_q.mean())
        r = np.exp(log_joint - log_q[:, None])
        counts = r.sum(axis=0)
        weights = counts / n
        means = [(r[:, k, None] * x).sum(axis=0) / counts[k] for k in range(len(counts))]
        covariances = [
            kept * ((r[:, k, None] * (x - means[k])).T @ (x - means[k]) / counts[k])
            + floor * np.eye(d)
            for k in range(len(counts))
        ]
    return weights, np.array(means), np.array(covariances), np.array(trace)


def chi_square_interval(n: int, level: float) -> tuple[float, float]:
    """Where the sample standard deviation about 0 of n standard normals lies, two-sided."""
    low, high = stats.chi2.ppf([(1 - level) / 2, (1 + level) / 2], n)
    return float(np.sqrt(low / n)), float(np.sqrt(high / n))
