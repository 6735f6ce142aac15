"""The highest mode of log p over u, for the Laplace approximation.

That is a mode and its curvature, not an optimum of any divergence: a Gaussian there can
be far from the best Gaussian (MacKay 2003, "Information Theory, Inference, and Learning
Algorithms", chapter 27; Bishop 2006, "Pattern Recognition and Machine Learning", 4.4).

A quasi-Newton ascent (BFGS) from every start, then a few Newton steps. Whether the end is a
mode is judged in units of its own curvature H = −∇² log p, so that no scale of u matters. H
must be positive definite. The Newton decrement sqrt(∇ᵀH⁻¹∇), the distance to the mode in
standard deviations, must be small.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from scipy import linalg, optimize

from vi_compare import families
from vi_compare.approximation import GuideApproximation
from vi_compare.divergences.reverse_kl import ReverseKL
from vi_compare.errors import InputError
from vi_compare.formatting import minus
from vi_compare.randomness import split
from vi_compare.scores import PointScores
from vi_compare.solvers import Cost, Expected, Fit, Problem, Restart
from vi_compare.solvers._restarts import grouped, side_by_side
from vi_compare.starts import starting_points
from vi_compare.target import Target
from vi_compare.verdict import Status


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
class Ascent:
    """An ascent from one start, and where it ended.

    Attributes:
        u: the end (d,).
        log_p: log p there, in nats.
        path: log p after every step, (steps,).
        curvature: H = −∇² log p (d, d) there, or None if it or log p is not finite.
        decrement: distance from u to the mode of the local quadratic, in standard deviations;
            None unless the curvature is positive definite.
        why: "" at a mode, else why u is none, in words.
    """

    u: np.ndarray
    log_p: float
    path: np.ndarray
    curvature: np.ndarray | None
    decrement: float | None
    why: str


@dataclass(frozen=True)
class ModeTuning:
    """Tunables of the search for a mode that nobody has had to change.

    Attributes:
        dense: maximum dimension for dense BFGS, which costs d³ a step in SciPy; above it, L-BFGS.
        memory: pairs that L-BFGS remembers.
        flat: BFGS stops where no entry of the gradient is larger; Newton steps do the rest.
        newton_steps: maximum number of Newton steps.
        same_mode: two ascents ended at one mode when they lie nearer than this, in its standard
            deviations.
        same_height: log p of two ends differs when it does so by more than this, in nats.
    """

    dense: int = 200
    memory: int = 30
    flat: float = 1e-6
    newton_steps: int = 20
    same_mode: float = 0.1
    same_height: float = 1e-3


@dataclass(frozen=True)
class ModeFinder:
    """See the module.

    Attributes:
        iterations: maximum number of BFGS iterations per start.
        tolerance: maximum distance to the mode, in standard deviations.
        tuning: the rest.
    """

    iterations: int
    tolerance: float
    tuning: ModeTuning = ModeTuning()

    def expected(self, problem: Problem) -> Expected:
        """Two ascents of some points for each dimension."""
        return Expected(gradients=20 + 10 * problem.target.dim, seconds=1)

    def solve(self, problem: Problem) -> Fit:
        """The highest of the modes that `restarts` ascents end at."""
        target, restarts = problem.target, problem.restarts
        if target.subsampled:
            plates = ", ".join(map(repr, target.subsampled))
            message = f"the model sees a minibatch of {plates}, and a mode needs all of the data"
            nothing = np.zeros((0, 0))
            return Fit(None, Status.FAILED, message, nothing, cost=Cost.nothing())
        (start_key,) = split(problem.key, 1)
        scores = PointScores(target)
        ends: list[Ascent] = []
        for start in np.asarray(starting_points(target, start_key, restarts), float):
            ends.append(self.ascend(scores, start))
            highest = max((e.log_p for e in ends if np.isfinite(e.log_p)), default=np.nan)
            problem.progress(len(ends), restarts, f"log p {highest:.4g}")
        cost = Cost(scores.compile_seconds, scores.densities, scores.gradients)
        return _fit(problem.guide, target, ends, cost, self.tuning)

    def ascend(self, scores: PointScores, start: np.ndarray) -> Ascent:
        """From a start (d,) to where log p no longer rises."""
        path: list[float] = []
        watch = lambda intermediate_result: path.append(-float(intermediate_result.fun))
        loss = partial(_loss, scores)
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            # The line search may try points where log p is not finite, and turns back.
            warnings.simplefilter("ignore")
            # SciPy's searches, not those of gaussian/quasi_newton.py, which batch many starts:
            # the few ascents here are short, and other iterates would end at other digits.
            found = optimize.minimize(loss, start, jac=True, callback=watch, **self._method(scores))
        return self._finish(scores, np.asarray(found.x, float), path)

    def _method(self, scores: PointScores) -> dict[str, Any]:
        """SciPy's method and its options."""
        options = {"maxiter": self.iterations, "gtol": self.tuning.flat}
        if scores.dim <= self.tuning.dense:
            return {"method": "BFGS", "options": options}
        options |= {"maxfun": 20 * self.iterations, "maxcor": self.tuning.memory, "ftol": 0.0}
        return {"method": "L-BFGS-B", "options": options}

    def _finish(self, scores: PointScores, u: np.ndarray, path: list[float]) -> Ascent:
        """Newton steps from u (d,) while they gain, then the verdict on the point."""
        loss, gradient = _loss(scores, u)
        for _ in range(self.tuning.newton_steps):
            curvature = scores.curvature(u) if np.isfinite(u).all() else np.full((1, 1), np.nan)
            if not all(np.isfinite(x).all() for x in (loss, gradient, curvature)):
                return _ended(u, -loss, path, None, None, _endless(path))
            factor = _cholesky(curvature)
            if factor is None:
                return _ended(u, -loss, path, curvature, None, _flat(scores.target, curvature))
            step = linalg.cho_solve((factor, True), gradient)
            decrement = float(np.sqrt(max(0.0, gradient @ step)))
            new_loss, new_gradient = _loss(scores, u - step)
            if decrement < self.tolerance * 1e-3 or not new_loss < loss:
                break
            u, loss, gradient = u - step, new_loss, new_gradient
            path.append(-loss)
        why = "" if decrement < self.tolerance else (
            f"log p still rises: the mode of its quadratic is {decrement:.2g} standard "
            f"deviations away"
        )  # fmt: skip
        return _ended(u, -loss, path, curvature, decrement, why)


def _loss(scores: PointScores, u: np.ndarray) -> tuple[float, np.ndarray]:
    """−log p () and its gradient (d,) at u (d,); +inf where log p is not a number."""
    log_p, gradient = scores.at(u)
    return (np.inf if np.isnan(log_p) else -log_p), -gradient


def _ended(u, log_p, path, curvature, decrement, why) -> Ascent:
    return Ascent(u, log_p, np.array([*path, log_p]), curvature, decrement, why)


def _fit(
    guide: Callable, target: Target, ends: list[Ascent], cost: Cost, tuning: ModeTuning
) -> Fit:
    # −log p after every step
    losses = side_by_side([-end.path for end in ends])
    modes = _modes(ends, tuning.same_mode)
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
    status, message = _status(ends, modes, best, tuning.same_height)
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


def _status(
    ends: list[Ascent], modes: list[int | None], best: int, same_height: float
) -> tuple[Status, str]:
    top = ends[best].log_p
    words = (
        f"{modes.count(0)} of {len(ends)} starts reached the highest mode found, "
        f"log p = {top:.6g}; this is a mode and its curvature, not an optimum of the divergence"
    )
    above = [e for e in ends if e.why and e.log_p > top + same_height]
    if not above:
        return Status.CONVERGED, words
    rose = f"{len(above)} of {len(ends)} starts rose above it without reaching a mode"
    return Status.NOT_CONVERGED, f"{words}; {rose}: there {above[0].why}"


def _modes(ends: list[Ascent], same_mode: float) -> list[int | None]:
    """Which mode each start reached: 0 for the highest, then 1, 2, ...; None for no mode."""
    numbers: list[int | None] = [None] * len(ends)
    modes = (r for r, end in enumerate(ends) if not end.why)
    ranked = sorted(modes, key=lambda r: -ends[r].log_p)
    found = grouped(ranked, lambda leader, r: _distance(ends[leader], ends[r]) < same_mode)
    for r, number in zip(ranked, found, strict=True):
        numbers[r] = number
    return numbers


def _distance(leader: Ascent, other: Ascent) -> float:
    """Distance of the end of `other` from that of `leader`, in standard deviations there."""
    assert leader.curvature is not None
    apart = leader.u - other.u
    return float(np.sqrt(apart @ leader.curvature @ apart))


def _cholesky(curvature: np.ndarray) -> np.ndarray | None:
    """The lower factor (d, d), or None unless `curvature` is positive definite beyond rounding."""
    scale = np.sqrt(np.abs(np.diag(curvature)))
    if not (scale > 0).all():
        return None
    # Rounding of a Hessian, relative to its diagonal: a correlation of 1 − 1e-12 is singular.
    least = linalg.eigvalsh(curvature / np.outer(scale, scale))[0]
    return linalg.cholesky(curvature, lower=True) if least > 1e-12 * len(curvature) else None


def _endless(path: list[float]) -> str:
    """Why an ascent broke off where log p is not finite."""
    finite = [log_p for log_p in path if np.isfinite(log_p)]
    so_far = f" after log p rose to {finite[-1]:.4g}" if finite else ""
    return f"log p or a derivative of it is not a finite number{so_far}"


def _flat(target: Target, curvature: np.ndarray) -> str:
    """Why there is no mode where the curvature (d, d) is not positive definite; names the site."""
    values, vectors = linalg.eigh(curvature)
    least = int(np.argmax(np.abs(vectors[:, 0])))
    owners = [site.name for site in target.sites for _ in range(site.size)]
    return (
        f"the curvature −∇² log p is not positive definite (eigenvalues from {values[0]:.2g} to "
        f"{values[-1]:.2g}), least along site {owners[least]!r}: log p is flat there or rises "
        f"without bound"
    )
