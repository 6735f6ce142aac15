"""EM against scikit-learn's GaussianMixture: the same starts, the same iterations."""

from __future__ import annotations

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vi_compare.families import GaussianMixture
from vi_compare.solvers._em import em

ITERATIONS = 20
CASES = {"1-D K=2 n=20,000": (1, 2, 20_000), "2-D K=40 n=20,000": (2, 40, 20_000),
         "10-D K=10 n=200,000": (10, 10, 200_000)}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_em_against_scikit_learn(case, compare):
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.mixture import GaussianMixture as Peer

    d, k, n = CASES[case]
    rng = np.random.default_rng(0)
    centres = rng.uniform(-4, 4, (k, d))
    u = centres[rng.integers(k, size=n)] + rng.normal(size=(n, d))
    means = centres + rng.normal(size=(k, d))
    start = GaussianMixture(
        jnp.full(k, 1 / k), jnp.asarray(means), jnp.broadcast_to(jnp.eye(d), (k, d, d))
    )
    run = jax.jit(lambda u: em(u, start, iterations=ITERATIONS, tolerance=-1.0, floor=0.0))
    peer = Peer(
        k, max_iter=ITERATIONS, tol=0.0, reg_covar=0.0, weights_init=np.full(k, 1 / k),
        means_init=means, precisions_init=np.stack([np.eye(d)] * k),
    )  # fmt: skip
    draws = jnp.asarray(u)

    def fit():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            peer.fit(u)
        return ()

    result = run(draws)
    fit()
    # scikit-learn reports the likelihood before its last M-step, as ours does.
    gap = abs(float(result.log_likelihood[ITERATIONS - 1]) - peer.lower_bound_)
    assert gap < 1e-6
    compare(f"EM, {case}", lambda: run(draws), fit, likelihood_gap=f"{gap:.1g}")
