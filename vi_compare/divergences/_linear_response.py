"""Linear response: the covariance that a mean-field fit implies and does not have (Giordano,
Broderick and Jordan 2018, "Covariances, robustness, and variational Bayes").

Were log p tilted to log p + t g, the mean of g under p would move by t times its variance: that is
what a cumulant is. Its mean under the best q moves as well. With η = (m, ω), ω the log of the
scales s, and F(η) the reverse KL, the optimum moves by t H⁻¹ a, where H = ∇²F and a = ∇ E_q[g]. So
the variance by linear response is aᵀ H⁻¹ a; where g is a coordinate of u, that is an entry of the
block of H⁻¹ that belongs to m.

With C = −∇² log p at u = m + s z, and E[s z ∂ log p] = −1, which holds at the optimum,
H_mm = E[C], H_mω = E[C diag(s z)] and H_ωω = E[diag(s z) C diag(s z)] + I, and
a = E[(∇g, s z ∇g)]. The draws z are antithetic: where p is Gaussian, C is constant, and variances
of coordinates are right to rounding.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from vi_compare.approximation import GuideApproximation
from vi_compare.estimate import Estimate, entries
from vi_compare.evidence import Response
from vi_compare.families import Covariances
from vi_compare.gaussian.antithetic import even_pairs
from vi_compare.gaussian.gaussians import MeanField
from vi_compare.scores import Scores
from vi_compare.target import Target
from vi_compare.target.work import afforded


@dataclass(frozen=True)
class ResponseEffort:
    """How carefully the Hessian is computed.

    Attributes:
        batches: independent sets of draws, whose spread is its error.
        draws: of each at most, a power of two; each takes d gradients of log p,
            and d derivatives of the model's own values.
        fewest: of each, where log p takes long.
        operations: of log p for all of them, at most: some five seconds of one core. Where the
            fewest take more, there is no number.
        dimensions: maximum number for which all of this is done.
        worst: relative standard error of an sd from which on it is no number.
    """

    batches: int = 8
    draws: int = 64
    fewest: int = 8
    operations: float = 1e10
    dimensions: int = 300
    worst: float = 0.1


def linear_response(
    approximation: GuideApproximation,
    rng: np.random.Generator,
    effort: ResponseEffort | None = None,
) -> Response:
    """The sds of every entry of every site and quantity at an optimum of reverse KL, for mean
    field."""
    effort, target = effort or ResponseEffort(), approximation.target
    found = _sets(approximation, rng, effort)
    if isinstance(found, str):
        return Response(reason=found)
    q, hessians = found.q, found.hessians
    slopes = [_slopes(target, jnp.asarray(q.mean), jnp.asarray(q.scales * z)) for z in found.z]
    by_site = {name: np.stack([np.asarray(one[name]) for one in slopes]) for name in slopes[0]}
    return _response(hessians, by_site, target, effort)


@dataclass(frozen=True)
class ResponseCovariance:
    """The covariance of u itself.

    Attributes:
        matrix: (d, d); None where there is none.
        worst: the largest relative standard error of a standard deviation in it.
        gradients: of log p that it took.
        reason: why there is none; or "".
    """

    matrix: np.ndarray | None = None
    worst: float = 0.0
    gradients: int = 0
    reason: str = ""


def response_covariance(
    approximation: GuideApproximation,
    rng: np.random.Generator,
    effort: ResponseEffort | None = None,
) -> ResponseCovariance:
    """The covariance of u by linear response, at an optimum of reverse KL, for mean field: the
    block of H⁻¹ that belongs to the means. For the sds of what the model's sites are, which the
    Gaussian over u with this covariance need not have, see `linear_response`."""
    effort = effort or ResponseEffort()
    found = _sets(approximation, rng, effort)
    if isinstance(found, str):
        return ResponseCovariance(reason=found)
    d, gradients = approximation.target.dim, found.scores.gradients
    whole = found.hessians.mean(axis=0)
    if reason := _no_optimum(whole):
        return ResponseCovariance(gradients=gradients, reason=reason)
    answers = np.linalg.inv(whole)[:, :d]
    matrix = (answers[:d] + answers[:d].T) / 2
    # What each set does to the variances, to first order.
    off = found.hessians - whole
    moved = -np.einsum("ik,bij,jk->bk", answers, off, answers)
    relative = moved.std(axis=0, ddof=1) / np.sqrt(len(off)) / (2 * np.diag(matrix))
    worst = float(relative.max())
    if worst > effort.worst:
        reason = f"an sd by linear response is not known to {100 * effort.worst:g} %"
        return ResponseCovariance(gradients=gradients, reason=reason)
    return ResponseCovariance(matrix, worst, gradients)


@dataclass(frozen=True)
class _Sets:
    """Hessians (B, 2d, 2d) of the reverse KL at `q`, each by its own draws `z` (n, d)."""

    q: MeanField
    z: list[np.ndarray]
    hessians: np.ndarray
    scores: Scores


def _sets(
    approximation: GuideApproximation, rng: np.random.Generator, effort: ResponseEffort
) -> _Sets | str:
    """The Hessians, or why there are none."""
    target, family = approximation.target, approximation.family
    if family.covariances is not Covariances.DIAGONAL:
        return "linear response is worked out for mean-field Gaussians alone"
    if target.dim > effort.dimensions:
        return f"linear response takes a Hessian in more than {effort.dimensions} dimensions"
    q = family.gaussian(approximation.params, target)
    assert isinstance(q, MeanField)  # as every diagonal family gives
    each = effort.batches * 2.0 * target.dim * target.operations
    if each * effort.fewest > effort.operations:
        return "its Hessian takes too long to compute, as log p does"
    most = afforded(effort.operations, each, effort.fewest, effort.draws)
    number = 2 ** int(np.log2(most))
    scores = Scores(target)
    z = [even_pairs(rng, number, target.dim) for _ in range(effort.batches)]
    return _Sets(q, z, np.stack([_hessian(q, scores, one) for one in z]), scores)


def _no_optimum(hessian: np.ndarray) -> str:
    """Why the mean-field fit with this Hessian (2d, 2d) is no optimum; or ""."""
    if not np.isfinite(hessian).all():
        return "the Hessian of log p is not finite at some draws of the fit"
    if not (np.linalg.eigvalsh(hessian) > 0).all():
        return "the reverse KL curves down where the fit ended: no optimum"
    return ""


def _hessian(q: MeanField, scores: Scores, z: np.ndarray) -> np.ndarray:
    """∇² of the reverse KL (2d, 2d) in the mean and the log scales, from draws z (n, d)."""
    d = len(q.mean)
    total = np.zeros((2 * d, 2 * d))
    for off in q.scales * z:
        curvature = scores.curvature(q.mean + off)
        total += np.block(
            [
                [curvature, curvature * off],
                [off[:, None] * curvature, np.outer(off, off) * curvature],
            ]
        )
    total /= len(z)
    total[d:, d:] += np.eye(d)
    return total


@partial(jax.jit, static_argnums=0)
def _slopes(target: Target, mean: Array, off: Array) -> dict[str, Array]:
    """{site or quantity: ∇ E_q[its value] (2d, ...) in the mean and the log scales}, from draws
    that are `off` (n, d) the mean."""

    def one(off: Array) -> dict[str, Array]:
        found = _jacobian(target, mean + off)
        in_front = jax.tree.map(lambda a: jnp.moveaxis(a, -1, 0), found)
        scaled = jax.tree.map(lambda a: jnp.moveaxis(a * off, -1, 0), found)
        return jax.tree.map(lambda a, b: jnp.concatenate([a, b]), in_front, scaled)

    add = lambda total, off: (jax.tree.map(jnp.add, total, one(off)), None)
    total, _ = jax.lax.scan(add, one(off[0]), off[1:])
    return jax.tree.map(lambda a: a / len(off), total)


def _jacobian(target: Target, u: Array) -> dict[str, Array]:
    """{site or quantity: derivatives of its value (..., d) at u (d,)}."""
    try:
        return jax.jacfwd(target.everything)(u)
    except TypeError:  # a rule of its own for gradients has no forward mode, as in `scores`
        return jax.jacrev(target.everything)(u)


def _response(
    hessians: np.ndarray, slopes: dict[str, np.ndarray], target: Target, effort: ResponseEffort
) -> Response:
    """From Hessians (B, 2d, 2d) and slopes {site: (B, 2d, ...)} of several sets of draws."""
    whole = hessians.mean(axis=0)
    if reason := _no_optimum(whole):
        return Response(reason=reason)
    inverse = np.linalg.inv(whole)
    flat = {site: a.reshape(-1, *a.shape[2:]) for site, a in slopes.items()}
    by_label = entries(flat, target.coords)
    sets = len(hessians)
    sd = lambda a: _sd(a.reshape(sets, -1), inverse, hessians - whole, effort.worst)
    return Response({label: sd(a) for label, a in by_label.items()})


def _sd(slopes: np.ndarray, inverse: np.ndarray, off: np.ndarray, worst: float) -> Estimate:
    """√(aᵀ H⁻¹ a) from a of every set (B, 2d), H⁻¹ (2d, 2d), and H of every set − H (B, 2d, 2d)."""
    slope = slopes.mean(axis=0)
    answer = inverse @ slope
    variance = float(slope @ answer)
    if not variance > 0 or not np.isfinite(variance):
        return Estimate.missing("its mean does not answer smoothly to the fit's parameters")
    # What each set does to the variance, to first order.
    moved = 2 * (slopes - slope) @ answer - np.einsum("i,bij,j->b", answer, off, answer)
    relative = float(moved.std(ddof=1) / np.sqrt(len(off)) / (2 * variance))
    if relative > worst:
        return Estimate.missing(f"its sd by linear response is not known to {100 * worst:g} %")
    return Estimate(variance**0.5, relative * variance**0.5)
