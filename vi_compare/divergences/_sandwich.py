"""What n draws can tell about the optimum of a forward fit: its error and its floor.

At the maximum likelihood parameters θ, with H the Hessian of E_p[−log q] and V the
covariance of the score ∇ log q: the error of θ is H⁻¹VH⁻¹/n, and q loses tr(H⁻¹V)/(2n)
nats against the best of its family (Huber 1967; White 1982).
"""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.flatten_util import ravel_pytree

from vi_compare.approximation import GuideApproximation


def sandwich(
    q: GuideApproximation, u: Array, most_parameters: int = 300
) -> tuple[np.ndarray, float] | None:
    """Covariance (P, P) of the flat parameters and the loss of fit in nats, for a
    maximum-likelihood q on draws u (n, d).

    Directions in which q does not change (the common level of logits) get no error. None
    where q has more than `most_parameters`: the Hessian is P × P and dense, and one of 300
    takes seconds.
    """
    if sum(map(np.size, jax.tree.leaves(q.params))) > most_parameters:
        return None
    hessian, outer = map(np.asarray, _curvature(q, u))
    inverse = np.linalg.pinv(hessian, rcond=1e-10, hermitian=True)
    return inverse @ outer @ inverse / len(u), float(np.trace(inverse @ outer)) / (2 * len(u))


@jax.jit
def _curvature(q: GuideApproximation, u: Array) -> tuple[Array, Array]:
    """Hessian (P, P) of the mean negative log likelihood, and mean of score ⊗ score.

    At most 500 draws at a time: a Hessian carries P tangents of everything inside.
    """
    flat, unravel = ravel_pytree(q.params)
    log_q = lambda flat, one: GuideApproximation(q.guide, unravel(flat), q.target).log_prob(one)

    def some(total, rows):
        def pull(flat):
            score = jax.vmap(jax.grad(log_q), (None, 0))(flat, rows)
            return -score.sum(axis=0), score

        hessian, score = jax.jacfwd(pull, has_aux=True)(flat)
        return (total[0] + hessian, total[1] + score.T @ score), None

    blocks = u.reshape(-1, math.gcd(len(u), 500), u.shape[1])
    zero = jnp.zeros((flat.size, flat.size))
    (hessian, outer), _ = jax.lax.scan(some, (zero, zero), blocks)
    return hessian / len(u), outer / len(u)
