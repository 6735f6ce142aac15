"""Expectation maximisation for Gaussian mixtures, as matrix products over all draws.

log(w_k N(x; m_k, C_k)) is linear in the features (1, x_i, x_i x_j), so the E-step is one
product coefficients @ features and the M-step one product responsibilities @ featuresᵀ.
Draws are whitened first, which keeps the cancellation in those products harmless, and
run along the last axis, where the processor adds and exponentiates many at once.
(Dempster, Laird and Rubin 1977; starts after k-means++, Arthur and Vassilvitskii 2007.)
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from vi_compare.families import GaussianMixture


class EM(NamedTuple):
    """Result of `em`.

    Attributes:
        mixture: the best one found, in the units of the draws.
        log_likelihood: (iterations,) mean log likelihood of the draws before each
            iteration, in nats; NaN after the last one used.
        iterations: number of iterations used.
        gain: increase of the mean log likelihood by the last iteration, in nats.
        revived: how often a component that had lost its draws was started afresh.
    """

    mixture: GaussianMixture
    log_likelihood: Array
    iterations: Array | int
    gain: Array | float
    revived: Array | int


def em(
    u: Array,
    start: GaussianMixture,
    *,
    iterations: int,
    tolerance: float,
    floor: float,
    diagonal: bool = False,
) -> EM:
    """Maximum likelihood of draws u (n, d) over mixtures with K components.

    Args:
        u: draws, (n, d).
        start: where to start; its K is kept.
        iterations: maximum number of iterations.
        tolerance: stop when the mean log likelihood gains less, in nats.
        floor: added to the diagonal of every covariance in whitened units, where the draws
            have covariance 1, so that no component can collapse on a point.
        diagonal: whether covariances are diagonal. The whitened units are then those in which
            every coordinate has variance 1.
    """
    mean, root = _moments(u, diagonal)
    start = _whitened_mixture(start, mean, root)
    found = _em_whitened(_whitened(u, mean, root), start, iterations, tolerance, floor, diagonal)
    log_jacobian = -jnp.log(jnp.diagonal(root)).sum()
    return found._replace(
        mixture=_unwhitened_mixture(found.mixture, mean, root),
        log_likelihood=found.log_likelihood + log_jacobian,
    )


def _em_whitened(
    x: Array,
    start: GaussianMixture,
    iterations: int,
    tolerance: float,
    floor: float,
    diagonal: bool,
) -> EM:
    """`em` for draws x (n, d) that have mean 0 and covariance 1."""
    n, d = x.shape
    pairs = _pairs(d, diagonal)
    features = _features(x, pairs)
    spare = jnp.linalg.cholesky(jnp.eye(d) * (1 + floor))
    trace = jnp.full(iterations, jnp.nan, x.dtype)

    def go_on(carry):
        (_, i, _, gain, _), _ = carry
        return (i < iterations) & (gain > tolerance)

    def step(carry):
        (mixture, i, before, _, revived), trace = carry
        log_q, responsibilities = _expect(_coefficients(mixture, pairs) @ features)
        likelihood = log_q.mean()
        sums = responsibilities @ features.T  # (K, F)
        fresh, empty = _maximise(sums, n, floor, pairs)
        # A component that holds less than one draw is put on the draw explained worst.
        worst = x[jnp.argmin(log_q)]
        fresh = _revive(fresh, empty, worst, spare, n)
        gain = jnp.where(empty.any(), jnp.inf, likelihood - before)
        return (fresh, i + 1, likelihood, gain, revived + empty.sum()), trace.at[i].set(likelihood)

    begin = (start, 0, -jnp.inf, jnp.inf, 0)
    (mixture, i, _, gain, revived), trace = jax.lax.while_loop(go_on, step, (begin, trace))
    return EM(mixture, trace, i, gain, revived)


def kmeans_start(u: Array, key: Array, components: int, diagonal: bool = False) -> GaussianMixture:
    """k-means++ style start: centres far apart, then one hard assignment for the moments."""
    frame = _moments(u, diagonal)
    x = _whitened(u, *frame)
    pairs = _pairs(u.shape[1], diagonal)
    keys = jax.random.split(key, components)
    first = x[jax.random.randint(keys[0], (), 0, len(x))]
    square = lambda centre: jnp.sum((x - centre) ** 2, axis=1)

    def another(nearest, key):
        centre = x[jax.random.categorical(key, jnp.log(nearest + 1e-300))]
        return jnp.minimum(nearest, square(centre)), centre

    nearest, others = jax.lax.scan(another, square(first), keys[1:])
    distance = jax.vmap(square)(jnp.concatenate([first[None], others]))  # (K, n)
    hard = jax.nn.one_hot(jnp.argmin(distance, axis=0), components, dtype=u.dtype, axis=0)
    mixture, empty = _maximise(hard @ _features(x, pairs).T, len(u), 1e-3, pairs)
    spare = jnp.eye(u.shape[1], dtype=u.dtype)
    mixture = _revive(mixture, empty, x[jnp.argmax(nearest)], spare, len(u))
    return _unwhitened_mixture(mixture, *frame)


def _moments(u: Array, diagonal: bool) -> tuple[Array, Array]:
    """Mean (d,) and root (d, d), lower triangular, of the covariance of draws u (n, d), which
    whiten them. A coordinate that never varies keeps its own scale.

    A `diagonal` root only scales, so that diagonal covariances stay diagonal.
    """
    covariance = jnp.diag(u.var(axis=0, ddof=1)) if diagonal else jnp.atleast_2d(jnp.cov(u.T))
    scale = jnp.trace(covariance) / len(covariance) + jnp.finfo(u.dtype).tiny
    root = jnp.linalg.cholesky(covariance + 1e-12 * scale * jnp.eye(len(covariance)))
    return u.mean(axis=0), root


def _whitened(u: Array, mean: Array, root: Array) -> Array:
    """Points u (n, d) in coordinates in which the draws have mean 0 and covariance 1."""
    return jax.scipy.linalg.solve_triangular(root, (u - mean).T, lower=True).T


def _whitened_mixture(mixture: GaussianMixture, mean: Array, root: Array) -> GaussianMixture:
    solve = lambda m: jax.scipy.linalg.solve_triangular(root, m, lower=True)
    covariances = jax.vmap(lambda c: solve(solve(c).T))(mixture.covariances)
    means = _whitened(mixture.means, mean, root)
    return GaussianMixture(mixture.weights, means, covariances)


def _unwhitened_mixture(mixture: GaussianMixture, mean: Array, root: Array) -> GaussianMixture:
    weights, means, covariances = mixture
    return GaussianMixture(weights, means @ root.T + mean, root @ covariances @ root.T)


Pairs = tuple[Array, Array]


def _pairs(d: int, diagonal: bool) -> Pairs:
    """Which x_i x_j are features: all, or the squares alone."""
    return (jnp.arange(d), jnp.arange(d)) if diagonal else jnp.tril_indices(d)


def _features(x: Array, pairs: Pairs) -> Array:
    """(n, d) -> (F, n), F = 1 + d + number of pairs."""
    i, j = pairs
    x = x.T
    return jnp.concatenate([jnp.ones((1, x.shape[1]), x.dtype), x, x[i] * x[j]])


def _expect(joint: Array) -> tuple[Array, Array]:
    """log(w_k q_k) (K, n) -> log q (n,) and the share of each component in it (K, n).

    One exponential per entry: it is what an iteration spends its time on.
    """
    top = joint.max(axis=0)
    shares = jnp.exp(joint - top)
    total = shares.sum(axis=0)
    return top + jnp.log(total), shares / total


def _coefficients(mixture: GaussianMixture, pairs: Pairs) -> Array:
    """(K, F) so that coefficients @ features = log(w_k N(x; m_k, C_k))."""
    d = mixture.means.shape[1]
    i, j = pairs

    def one(weight, mean, covariance):
        tril = jnp.linalg.cholesky(covariance)
        precision = jax.scipy.linalg.cho_solve((tril, True), jnp.eye(d, dtype=mean.dtype))
        shift = precision @ mean
        log_det = 2 * jnp.log(jnp.diagonal(tril)).sum()
        constant = jnp.log(weight) - 0.5 * (mean @ shift + log_det + d * jnp.log(2 * jnp.pi))
        quadratic = -precision[i, j] * jnp.where(i == j, 0.5, 1.0)
        return jnp.concatenate([constant[None], shift, quadratic])

    return jax.vmap(one)(*mixture)


def _maximise(sums: Array, n: int, floor: float, pairs: Pairs) -> tuple[GaussianMixture, Array]:
    """Weighted moment match from sums (K, F); also which components hold under one draw."""
    i, j = pairs
    d = sums.shape[1] - 1 - len(i)
    count = sums[:, 0]
    empty = count < 1.0
    safe = jnp.where(empty, 1.0, count)[:, None]
    means, second = sums[:, 1 : 1 + d] / safe, sums[:, 1 + d :] / safe
    central = second - means[:, i] * means[:, j]
    full = jnp.zeros((len(sums), d, d), sums.dtype)
    full = full.at[:, i, j].set(central).at[:, j, i].set(central)
    return GaussianMixture(count / n, means, full + floor * jnp.eye(d)), empty


def _revive(mixture: GaussianMixture, empty: Array, point: Array, spare: Array, n: int):
    """Empty components start again at `point` with the draws' own covariance."""
    weights = jnp.where(empty, 1.0 / n, mixture.weights)
    return GaussianMixture(
        weights / weights.sum(),
        jnp.where(empty[:, None], point, mixture.means),
        jnp.where(empty[:, None, None], spare @ spare.T, mixture.covariances),
    )
