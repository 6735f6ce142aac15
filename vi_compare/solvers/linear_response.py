"""A mean-field fit with its covariance mended by linear response (Giordano, Broderick and Jordan
2018, "Covariances, robustness, and variational Bayes", JMLR).

1. The best mean-field Gaussian over u, as the guide `normal` is fitted by default.
2. The covariance of u that it implies: the block of the inverse Hessian of the reverse KL that
   belongs to the means (``divergences/_linear_response.py``).
3. The Gaussian over u with this mean and this covariance. Where the target is a Gaussian over u
   it is the target itself, as mean field has the right mean and H the right curvature.

So log q is known. It is no optimum of reverse KL over Gaussians of full rank. The correction is
made over u, and not on sites: there, a Gaussian with a corrected sd could leave the support.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from vi_compare import catalogue, families
from vi_compare.approximation import GuideApproximation
from vi_compare.divergences._linear_response import ResponseCovariance, response_covariance
from vi_compare.divergences.reverse_kl import ReverseKL
from vi_compare.formatting import plain
from vi_compare.randomness import generator, split
from vi_compare.solvers import Cost, Fit, Problem
from vi_compare.solvers._minibatches import refuse_minibatches
from vi_compare.verdict import Status


def suits(guide: Callable, divergence) -> int | None:
    """One Gaussian of full rank, under the divergence whose optimum responds."""
    full = families.family(guide).covariances == families.Covariances.FULL
    return -1 if full and isinstance(divergence, ReverseKL) else None


def build() -> LinearResponse:
    """The best mean-field Gaussian with its covariance by linear response (normal+lr), for mvn."""
    return LinearResponse()


@dataclass(frozen=True)
class LinearResponse:
    """See the module."""

    def solve(self, problem: Problem) -> Fit:
        """The corrected Gaussian.

        Raises:
            InputError: for minibatches, and in more dimensions than mean field is fitted in.
        """
        refuse_minibatches("linear-response", problem.target)
        fit_key, draw_key = split(problem.key, 2)
        fit = self._mean_field(problem, fit_key)
        q = fit.approximation
        if not isinstance(q, GuideApproximation):
            return replace(fit, message=f"mean field: {fit.message}")
        found = response_covariance(q, generator(draw_key))
        cost = fit.cost + Cost(0.0, 0, found.gradients)
        if found.matrix is None:
            message = f"{found.reason}; the mean-field fit itself: {fit.message}"
            return replace(
                fit, approximation=None, status=Status.FAILED, message=message, cost=cost
            )
        return self._corrected(problem, fit, q, found, cost)

    def _mean_field(self, problem: Problem, key) -> Fit:
        """The guide `normal` as `whitened` fits it to the same target."""
        guide = catalogue.load("guides", "normal").build(problem.target.model)
        tell, restarts = problem.progress, problem.restarts
        inner = Problem.of(problem.target, guide, ReverseKL(), key, restarts, tell)
        return catalogue.load("solvers", "whitened").build().solve(inner)

    def _corrected(
        self,
        problem: Problem,
        fit: Fit,
        q: GuideApproximation,
        found: ResponseCovariance,
        cost: Cost,
    ) -> Fit:
        """The mean-field fit with another covariance, in the guide that is asked for."""
        target, guide = problem.target, problem.guide
        mean_field = q.family.gaussian(q.params, target)
        assert mean_field is not None
        assert found.matrix is not None
        factor = np.linalg.cholesky(found.matrix)
        params = families.family(guide).from_gaussian(mean_field.mean, factor, target)
        wider = np.sqrt(np.diag(found.matrix)) / np.linalg.norm(mean_field.root, axis=1)
        words = (
            f"the best mean-field Gaussian, its sds over u times {plain(wider.min())} to "
            f"{plain(wider.max())} by linear response (each sd ± "
            f"{plain(100 * max(found.worst, 1e-4), 1)} % at most); this is not an optimum of "
            f"the divergence; mean field: {fit.message}"
        )
        return replace(
            fit,
            approximation=GuideApproximation(guide, params, target),
            message=words,
            cost=cost,
            settings=(fit.settings or {}) | {"optimises_divergence": False},
            left=None,
        )
