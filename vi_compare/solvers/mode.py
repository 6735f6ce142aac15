"""The highest mode of log p over u, for the Laplace approximation.

That is a mode and its curvature, not an optimum of any divergence: a Gaussian there can
be far from the best Gaussian (MacKay 2003, "Information Theory, Inference, and Learning
Algorithms", chapter 27; Bishop 2006, "Pattern Recognition and Machine Learning", 4.4).

Quasi-Newton (BFGS) climbs from every start, a few Newton steps finish. Whether that is a
mode is judged in units of its own curvature H = −∇² log p, so that no scale of u
matters: H must be positive definite, and the Newton decrement sqrt(∇ᵀH⁻¹∇), the distance
to the mode in standard deviations, small.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from scipy import linalg, optimize

from vi_compare import families
from vi_compare.approximation import GuideApproximation
from vi_compare.divergences.reverse_kl import ReverseKL
from vi_compare.errors import InputError
from vi_compare.formatting import minus
from vi_compare.randomness import split
from vi_compare.solvers import Cost, Fit, Problem, Restart
from vi_compare.solvers._restarts import grouped, side_by_side
from vi_compare.starts import starting_points
from vi_compare.target import Target
from vi_compare.verdict import Status

# Up to so many dimensions BFGS keeps its whole matrix, which costs d³ a step in SciPy;
# above, the last so many pairs.
DENSE, MEMORY = 200, 30
NEWTON_STEPS = 20
# Two ends are one mode when they lie nearer than this, in its standard deviations.
SAME_MODE = 0.1
# log p of two ends is the same when it differs by less than this, in nats.
SAME_HEIGHT = 1e-3


def suits(guide: Callable, divergence) -> int | None:
    """The Laplace approximation, under the divergence that people take it for."""
    known = families.family(guide).sits_at_a_mode and isinstance(divergence, ReverseKL)
    return 3 if known else None


def build(iterations: int = 1000, tolerance: float = 1e-4) -> ModeFinder:
    """BFGS to the highest mode of log p; the curvature there makes the Gaussian."""
    if iterations < 1:
        raise InputError(f"mode: iterations must be positive, got {iterations}")
    if tolerance <= 0:
        raise InputError(f"mode: tolerance must be positive, got {tolerance}")
    return ModeFinder(iterations, tolerance)


@dataclass(frozen=True)
class End:
    """Where one start ended.

    Attributes:
        u: the point (d,).
        log_p: there, in nats.
        path: log p after every step, (steps,).
        curvature: H = −∇² log p (d, d) there, or None if it or log p is not finite.
        decrement: distance to the mode of the local quadratic in standard deviations;
            None unless the curvature is positive definite.
        why: "" at a mode, else what is wrong, in words.
    """

    u: np.ndarray
    log_p: float
    path: np.ndarray
    curvature: np.ndarray | None
    decrement: float | None
    why: str


class Climber:
    """Compiled log p, gradient and curvature, and how often each was asked for.

    Attributes:
        densities, gradients: evaluations at one point so far; a curvature costs d gradients.
    """

    def __init__(self, target: Target, iterations: int, tolerance: float):
        self.target, self.iterations, self.tolerance = target, iterations, tolerance
        self.densities = self.gradients = 0
        example = jax.ShapeDtypeStruct((target.dim,), jnp.result_type(float))
        loss = lambda u: -target.log_density(u)
        begin = time.perf_counter()
        self._value_and_slope = jax.jit(jax.value_and_grad(loss)).lower(example).compile()
        self._curvature = jax.jit(jax.hessian(loss)).lower(example).compile()
        self.compile_seconds = time.perf_counter() - begin

    def loss(self, u: np.ndarray) -> tuple[float, np.ndarray]:
        """−log p () and its gradient (d,); +inf where log p is not a number."""
        self.densities += 1
        self.gradients += 1
        value, slope = self._value_and_slope(jnp.asarray(u, jnp.result_type(float)))
        value = float(value)
        return (np.inf if np.isnan(value) else value), np.asarray(slope, float)

    def curvature(self, u: np.ndarray) -> np.ndarray:
        self.gradients += self.target.dim
        return np.asarray(self._curvature(jnp.asarray(u, jnp.result_type(float))), float)

    def climb(self, start: np.ndarray) -> End:
        """From a start (d,) to where log p no longer rises."""
        path: list[float] = []
        watch = lambda intermediate_result: path.append(-float(intermediate_result.fun))
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            # The line search may try points where log p is not finite, and turns back.
            warnings.simplefilter("ignore")
            found = optimize.minimize(self.loss, start, jac=True, callback=watch, **self._method())
        return self._finish(np.asarray(found.x, float), path)

    def _method(self) -> dict[str, Any]:
        if self.target.dim <= DENSE:
            options = {"maxiter": self.iterations, "gtol": 1e-6}
            return {"method": "BFGS", "options": options}
        limits = {"maxiter": self.iterations, "maxfun": 20 * self.iterations}
        options = limits | {"maxcor": MEMORY, "ftol": 0.0, "gtol": 1e-6}
        return {"method": "L-BFGS-B", "options": options}

    def _finish(self, u: np.ndarray, path: list[float]) -> End:
        """Newton steps while they gain, then the verdict on the point."""
        loss, slope = self.loss(u)
        for _ in range(NEWTON_STEPS):
            curvature = self.curvature(u) if np.isfinite(u).all() else np.full((1, 1), np.nan)
            if not (
                np.isfinite(loss) and np.isfinite(slope).all() and np.isfinite(curvature).all()
            ):
                return self._end(u, -loss, path, None, None, _endless(path))
            factor = _cholesky(curvature)
            if factor is None:
                return self._end(u, -loss, path, curvature, None, _flat(self.target, curvature))
            step = linalg.cho_solve((factor, True), slope)
            decrement = float(np.sqrt(max(0.0, slope @ step)))
            new_loss, new_slope = self.loss(u - step)
            if decrement < self.tolerance * 1e-3 or not new_loss < loss:
                break
            u, loss, slope = u - step, new_loss, new_slope
            path.append(-loss)
        why = "" if decrement < self.tolerance else (
            f"log p still rises: the mode of its quadratic is {decrement:.2g} standard "
            f"deviations away"
        )  # fmt: skip
        return self._end(u, -loss, path, curvature, decrement, why)

    def _end(self, u, log_p, path, curvature, decrement, why) -> End:
        return End(u, log_p, np.array([*path, log_p]), curvature, decrement, why)


@dataclass(frozen=True)
class ModeFinder:
    """See the module.

    Attributes:
        iterations: at most so many BFGS iterations per start.
        tolerance: how near the mode must be, in standard deviations.
    """

    iterations: int
    tolerance: float

    def solve(self, problem: Problem) -> Fit:
        """The highest of the modes that `restarts` climbs end at."""
        target, restarts = problem.target, problem.restarts
        if target.subsampled:
            plates = ", ".join(map(repr, target.subsampled))
            message = f"the model sees a minibatch of {plates}, and a mode needs all of the data"
            nothing = np.zeros((0, 0))
            return Fit(None, Status.FAILED, message, nothing, cost=Cost.nothing())
        (start_key,) = split(problem.key, 1)
        climber = Climber(target, self.iterations, self.tolerance)
        ends: list[End] = []
        for start in np.asarray(starting_points(target, start_key, restarts), float):
            ends.append(climber.climb(start))
            highest = max((e.log_p for e in ends if np.isfinite(e.log_p)), default=np.nan)
            problem.progress(len(ends), restarts, f"log p {highest:.4g}")
        cost = Cost(climber.compile_seconds, climber.densities, climber.gradients)
        return _fit(problem.guide, target, ends, cost)


def _fit(guide: Callable, target: Target, ends: list[End], cost: Cost) -> Fit:
    # −log p after every step
    losses = side_by_side([-end.path for end in ends])
    modes = _modes(ends)
    rows = tuple(
        Restart(-e.log_p, 0.0, number, "finished")
        if number is not None
        else Restart(None, None, None, e.why)
        for e, number in zip(ends, modes, strict=True)
    )
    if 0 not in modes:
        highest = max(ends, key=lambda e: e.log_p if np.isfinite(e.log_p) else -np.inf)
        message = (
            f"no start of {len(ends)} reached a mode; at the highest point found {highest.why}; "
            f"without a mode there is no Laplace approximation"
        )
        return Fit(None, Status.FAILED, minus(message), losses, rows, cost=cost)
    best = max((r for r, m in enumerate(modes) if m == 0), key=lambda r: ends[r].log_p)
    params = families.family(guide).at_mode(ends[best].u, target)
    q = GuideApproximation(guide, params, target)
    status, message = _status(ends, modes, best)
    settings = {
        "starts_at_mode": modes.count(0),
        "decrement": ends[best].decrement,
        "optimises_divergence": False,
    }
    remedy = "" if status == Status.CONVERGED else (
        "keep log p from rising without bound (another parameterisation, or a proper prior)"
    )  # fmt: skip
    return Fit(
        q, status, minus(message), losses, rows, best, cost, settings=settings, remedy=remedy
    )


def _status(ends: list[End], modes: list[int | None], best: int) -> tuple[Status, str]:
    top = ends[best].log_p
    words = (
        f"{modes.count(0)} of {len(ends)} starts reached the highest mode found, "
        f"log p = {top:.6g}; this is a mode and its curvature, not an optimum of the divergence"
    )
    above = [e for e in ends if e.why and e.log_p > top + SAME_HEIGHT]
    if not above:
        return Status.CONVERGED, words
    rose = f"{len(above)} of {len(ends)} starts rose above it without reaching a mode"
    return Status.NOT_CONVERGED, f"{words}; {rose}: there {above[0].why}"


def _modes(ends: list[End]) -> list[int | None]:
    """Which mode each start reached: 0 for the highest, then 1, 2, ...; None for no mode."""
    numbers: list[int | None] = [None] * len(ends)
    modes = (r for r, end in enumerate(ends) if not end.why)
    ranked = sorted(modes, key=lambda r: -ends[r].log_p)
    found = grouped(ranked, lambda leader, r: _same(ends[leader], ends[r]))
    for r, number in zip(ranked, found, strict=True):
        numbers[r] = number
    return numbers


def _same(leader: End, other: End) -> bool:
    assert leader.curvature is not None
    apart = leader.u - other.u
    return bool(np.sqrt(apart @ leader.curvature @ apart) < SAME_MODE)


def _cholesky(curvature: np.ndarray) -> np.ndarray | None:
    """The lower factor, or None unless it is positive definite beyond rounding."""
    scale = np.sqrt(np.abs(np.diag(curvature)))
    if not (scale > 0).all():
        return None
    # Rounding of a Hessian, relative to its diagonal: a correlation of 1 − 1e-12 is singular.
    least = linalg.eigvalsh(curvature / np.outer(scale, scale))[0]
    return linalg.cholesky(curvature, lower=True) if least > 1e-12 * len(curvature) else None


def _endless(path: list[float]) -> str:
    finite = [log_p for log_p in path if np.isfinite(log_p)]
    so_far = f" after log p rose to {finite[-1]:.4g}" if finite else ""
    return f"log p or a derivative of it is not a finite number{so_far}"


def _flat(target: Target, curvature: np.ndarray) -> str:
    """What a curvature that is not positive definite says, and of which site."""
    values, vectors = linalg.eigh(curvature)
    least = int(np.argmax(np.abs(vectors[:, 0])))
    owners = [site.name for site in target.sites for _ in range(site.size)]
    return (
        f"the curvature −∇² log p is not positive definite (eigenvalues from {values[0]:.2g} to "
        f"{values[-1]:.2g}), least along site {owners[least]!r}: log p is flat there or rises "
        f"without bound"
    )
