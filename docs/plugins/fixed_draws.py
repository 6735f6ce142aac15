"""A solver: L-BFGS on draws that are fixed once.

With its random numbers held fixed a divergence is an ordinary function of the parameters, which
SciPy minimises to any digit (Giordano et al. 2024, "Black box variational inference with a
deterministic objective", JMLR 25). There is no step size to set; the price is a bias that falls
as one over the number of draws.
"""

from __future__ import annotations

from dataclasses import dataclass

import jax
import numpy as np
from jax.flatten_util import ravel_pytree
from numpyro.infer import SVI
from numpyro.optim import Adam
from scipy.optimize import minimize

from vi_compare.approximation import GuideApproximation
from vi_compare.families import family
from vi_compare.solvers import Cost, Fit, Problem, Restart
from vi_compare.verdict import Status


def suits(guide, divergence) -> int | None:
    """Any guide under any divergence; 0 is below every default, so it is used when it is named
    (mvn/reverse-kl/fixed-draws). None would say that the pair cannot be solved."""
    return None if divergence is None else 0


def build(draws: int = 256, iterations: int = 500) -> FixedDraws:
    """L-BFGS on draws that are fixed once: no step size, a bias of one over the draws."""
    if draws < 2:
        raise ValueError(f"draws must be at least 2, got {draws}")  # shown in one line
    return FixedDraws(draws, iterations)


@dataclass(frozen=True)
class FixedDraws:
    """See the module; `draws` per stratum, at most `iterations` steps of L-BFGS."""

    draws: int
    iterations: int

    def solve(self, problem: Problem) -> Fit:
        """The optimum from one start; the guide has been set up by who made the problem."""
        target, guide = problem.target, problem.guide
        start_key, draw_key = jax.random.split(problem.key)
        divergence = problem.divergence.with_particles(self.draws)
        # SVI knows the guide's parameters and their constraints; no step of it is taken.
        svi = SVI(target.model, guide, Adam(1.0), divergence)
        state = svi.init(start_key, *target.args, **target.kwargs)
        first, unravel = ravel_pytree(svi.optim.get_params(state.optim_state))
        q = lambda flat: GuideApproximation(guide, svi.constrain_fn(unravel(flat)), target)
        loss = jax.jit(jax.value_and_grad(lambda x: divergence.estimate(draw_key, q(x), target)))

        losses: list[float] = []
        watch = lambda intermediate_result: losses.append(float(intermediate_result.fun))
        loss_of = lambda x: tuple(np.asarray(part, float) for part in loss(x))
        limit = {"maxiter": self.iterations}
        found = minimize(loss_of, first, jac=True, method="L-BFGS-B", options=limit, callback=watch)
        problem.progress(1, 1, f"loss {found.fun:.4g}")
        return self._fit(q(found.x), found, losses, divergence)

    def _fit(self, q, found, losses: list[float], divergence) -> Fit:
        each = divergence.evaluations(family(q.guide).num_components)
        # Seconds are measured by who calls; what is not counted here would read "not recorded".
        cost = Cost(
            log_density_evaluations=found.nfev * each.log_density,
            gradient_evaluations=found.nfev * each.gradient,
        )
        ended = Status.CONVERGED if found.success else Status.NOT_CONVERGED
        return Fit(
            q,
            ended,
            f"L-BFGS took {found.nit} steps on {self.draws} fixed draws",
            np.array([losses]),
            # Loss, its standard error, which optimum (0 is that of the chosen one), how it ended:
            # one for each start, as there is a row of losses for each.
            restarts=(Restart(float(found.fun), None, 0, "finished"),),
            chosen=0,
            cost=cost,
            remedy=f"raise fixed-draws:iterations={2 * self.iterations}",
        )
