"""Multi-path Pathfinder by BlackJAX, for a mixture of Gaussians (``_blackjax.py``).

The equal mixture of the Gaussians of K paths, one a component: what multi-path Pathfinder draws
from before it resamples by importance (Zhang et al. 2022, algorithm 2). So log q is known. The
resampling is not done: whether weights would mend the fit is what k̂ beside it says.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np

from vi_compare import families
from vi_compare.divergences.reverse_kl import ReverseKL
from vi_compare.families import GaussianMixture
from vi_compare.solvers import Fit, Problem
from vi_compare.solvers._blackjax import Pathfinding


def suits(guide: Callable, divergence) -> int | None:
    """A mixture of Gaussians of full rank, under the divergence that chooses on the paths."""
    family = families.family(guide)
    mixture = family.has_projection and family.covariances is None
    whole = mixture and not family.diagonal_components
    return 0 if whole and isinstance(divergence, ReverseKL) else None


def build(iterations: int = 100, memory: int = 10, draws: int = 200) -> ManyPaths:
    """Multi-path Pathfinder by BlackJAX (the extra 'peers'), for mixture:K: K paths, unweighted."""
    return ManyPaths(Pathfinding("multipathfinder", iterations, memory, draws))


@dataclass(frozen=True)
class ManyPaths:
    """As many paths as the mixture has components, for every restart; the best set by ELBO."""

    pathfinding: Pathfinding

    def solve(self, problem: Problem) -> Fit:
        family = families.family(problem.guide)
        k = family.num_components

        def params(met):
            covariances = np.stack([q.factor @ q.factor.T for q in met])
            means = np.stack([q.mean for q in met])
            parts = (np.full(k, 1 / k), means, covariances)
            return family.from_mixture(GaussianMixture(*map(jnp.asarray, parts)), problem.target)

        return self.pathfinding.search(problem, k, params)
