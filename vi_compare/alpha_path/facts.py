"""A path over α as plain data: what ``path.json`` holds (schema 1)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from arviz_stats.base import array_stats
from jax import Array
from scipy.stats import norm

from vi_compare.alpha_path.branches import AlphaPath, BranchEnd, OptimumBranch, Rules, Transition
from vi_compare.alpha_path.integration import IntegrationRule, LineRule, Lot
from vi_compare.alpha_path.objective import Optimum, terms
from vi_compare.comparison import number
from vi_compare.evidence import Draws
from vi_compare.metrics import abouts
from vi_compare.metrics._quantiles import LEVEL
from vi_compare.reference.modes import FoundModes, NoModes, find_modes
from vi_compare.solvers import Progress, quiet
from vi_compare.target import Target

# A value with its standard error; None where there is none.
Number = dict[str, float | None]


@dataclass(frozen=True)
class Detail:
    """How much of a path is written down.

    Attributes:
        margins: maximum number of coordinates whose densities are kept.
        grid: points of each density.
        reach: of a grid beyond the draws on either side, as a share of their range.
        draws: of q, where its margins are not known in closed form, and of all optima
            together that modes are looked for from.
        sources: maximum number of optima that those draws are taken from.
    """

    margins: int = 3
    grid: int = 161
    reach: float = 0.15
    draws: int = 2000
    sources: int = 24


@dataclass(frozen=True)
class ShownMargin:
    """One coordinate of u whose density is shown.

    Attributes:
        index: into u.
        label: of the coordinate.
        grid, target: (g,) where, and the target's density there.
    """

    index: int
    label: str
    grid: np.ndarray
    target: np.ndarray


def results(
    path: AlphaPath,
    target: Target,
    draws: Draws,
    key: Array,
    progress: Progress = quiet,
    detail: Detail = Detail(),
) -> dict[str, Any]:
    """Everything about the path that does not depend on the command; `draws` of the target."""
    margins = _margins(path, target, draws, detail)
    lot = _lot(path, key, detail)
    modes = _modes(target, lot, draws)
    describe = _Describe(path, margins, lot, modes, key, detail.draws)
    branches = []
    for i, branch in enumerate(path.branches):
        progress(i, len(path.branches), "optima")
        branches.append(describe.branch(branch))
    measured = ("forward_kl", "reverse_kl", "missed_mass", "invented_mass", "mode_coverage")
    return {
        "metrics": {name: abouts()[name].plain() for name in measured},
        "method": path.rules.measure.method,
        "nodes": len(path.rules.measure.u),
        "alphas": path.alphas.tolist(),
        "margins": [
            {"label": m.label, "grid": _short(m.grid), "target": _short(m.target)} for m in margins
        ],
        "modes": [] if modes is None else list(modes.places),
        "target_basins": _masses(lot, modes),
        "branches": branches,
        "transitions": [_transition(one) for one in path.transitions],
    }


class _Describe:
    """Measures the points of a path."""

    def __init__(
        self,
        path: AlphaPath,
        margins: Sequence[ShownMargin],
        lot: Lot | None,
        modes: FoundModes | None,
        key: Array,
        draws: int,
    ):
        self.path, self.margins = path, margins
        self.lot, self.modes, self.key, self.draws = lot, modes, key, draws

    def branch(self, branch: OptimumBranch) -> dict[str, Any]:
        return {
            "name": branch.name,
            "images": branch.images,
            "begin": _end(branch.begin),
            "end": _end(branch.end),
            "points": [self.point(branch, i) for i in sorted(branch.points)],
        }

    def point(self, branch: OptimumBranch, i: int) -> dict[str, Any]:
        one, rule = branch.points[i], self.path.rules.measure
        points = self.path.problem.points(one.theta, rule)

        def value_at(alpha: float) -> Number:
            each = np.asarray(terms(points, alpha))
            return _estimate(float(each.sum()), rule.error(each))

        log_p, log_q = np.asarray(points.log_p), np.asarray(points.log_q)
        p, q = (np.exp(np.asarray(points.log_v) + x) for x in (log_p, log_q))
        return {
            "alpha": float(self.path.alphas[i]),
            "best": self.path.best(i) is branch,
            "value": value_at(float(self.path.alphas[i])),
            "forward_kl": value_at(1.0),
            "reverse_kl": value_at(0.0),
            "missed_mass": _below(log_q, q, p, rule),
            "invented_mass": _below(log_p, p, q, rule),
            "basins": self._basins(one),
            **self._shape(one),
        }

    def _basins(self, one: Optimum) -> list[Number]:
        if self.modes is None or self.lot is None:
            return []
        mass = np.exp(self.lot.log_v + self.path.problem.log_q(one.theta, self.lot.u))
        member = self.modes.members["lot"]
        each = (np.where(member == m, mass, 0.0) for m in range(len(self.modes.names)))
        return [_estimate(float(x.sum()), self.lot.error(x)) for x in each]

    def _shape(self, one: Optimum) -> dict[str, Any]:
        """Weights, means, sds and densities of the margins."""
        q = self.path.problem.approximation(one.theta)
        mixture = q.mixture()
        index = [m.index for m in self.margins]
        if mixture is None:
            u = np.asarray(q.sample(self.key, self.draws).u)[:, index]
            curves = [_density(u[:, j], m.grid) for j, m in enumerate(self.margins)]
            weights, means, sds = None, u.mean(axis=0)[None], u.std(axis=0)[None]
        else:
            shares, means = np.asarray(mixture.weights), np.asarray(mixture.means)[:, index]
            weights = shares if len(shares) > 1 else None
            covariances = np.asarray(mixture.covariances)
            sds = np.sqrt(np.diagonal(covariances, axis1=1, axis2=2))[:, index]
            curves = [
                shares @ norm.pdf(m.grid, means[:, j, None], sds[:, j, None])
                for j, m in enumerate(self.margins)
            ]
        return {
            "weights": None if weights is None else weights.tolist(),
            "means": means.tolist(),
            "sds": sds.tolist(),
            "densities": [_short(curve) for curve in curves],
        }


def _margins(path: AlphaPath, target: Target, draws: Draws, detail: Detail) -> list[ShownMargin]:
    """The coordinates that the lowest branches move most, in the target's own sds."""
    u = np.asarray(draws.u)
    scale = u.std(axis=0)
    lowest = [(path.best(i), i) for i in range(len(path.alphas))]
    moments = [_moments(path, branch.points[i]) for branch, i in lowest if branch is not None]
    if not moments:
        return []
    means, sds = (np.stack(x) for x in zip(*moments, strict=True))
    moved = np.ptp(means, axis=0) / scale + np.ptp(np.log(sds), axis=0)
    chosen = sorted(np.argsort(-moved, kind="stable")[: detail.margins])
    labels = coordinates(target)
    return [ShownMargin(j, labels[j], *_curve(path.rules, u[:, j], detail)) for j in chosen]


def coordinates(target: Target) -> list[str]:
    """A name for each entry of u: the site's, in words where it is not the site's own value."""
    named = zip(target.coordinates, target.owners, strict=True)
    return [label if site.is_real else f"unconstrained {label}" for label, site in named]


def _moments(path: AlphaPath, one: Optimum) -> tuple[np.ndarray, np.ndarray]:
    """Means and sds (d,) of q."""
    points = path.problem.points(one.theta, path.rules.rough)
    mass = np.exp(np.asarray(points.log_v + points.log_q))
    u = np.asarray(points.u)
    mean = mass @ u / mass.sum()
    return mean, np.sqrt(mass @ (u - mean) ** 2 / mass.sum())


def _curve(rules: Rules, u: np.ndarray, detail: Detail) -> tuple[np.ndarray, np.ndarray]:
    """A grid (g,) over draws u (n,), and their density there; exact on the line."""
    low, high = np.quantile(u, [0.0005, 0.9995])
    room = detail.reach * (high - low)
    grid = np.linspace(low - room, high + room, detail.grid)
    if isinstance(rules.measure, LineRule):
        nodes, log_p = np.asarray(rules.measure.u)[:, 0], np.asarray(rules.measure.log_p)
        return grid, np.exp(np.interp(grid, nodes, log_p))
    return grid, _density(u, grid)


def _density(u: np.ndarray, grid: np.ndarray) -> np.ndarray:
    where, density, _ = array_stats.kde(u)
    return np.interp(grid, where, density, left=0.0, right=0.0)


def _lot(path: AlphaPath, key: Array, detail: Detail) -> Lot | None:
    """Points wherever a q of the path has mass; None where no optimum was found."""
    rule = path.rules.measure
    if isinstance(rule, LineRule):
        return Lot.of_line(rule, key)
    optima = [branch.points[i] for branch in path.branches for i in _some(branch)]
    if not optima:
        return None
    some = optima[:: -(-len(optima) // detail.sources)]
    each = detail.draws // len(some)
    sets = [
        np.asarray(path.problem.approximation(one.theta).sample(k, each).u)
        for one, k in zip(some, jax.random.split(key, len(some)), strict=True)
    ]
    return Lot.of_draws(sets, [partial(path.problem.log_q, one.theta) for one in some])


def _some(branch: OptimumBranch) -> list[int]:
    """The first, the middle and the last point of a branch."""
    known = sorted(branch.points)
    return sorted({known[0], known[len(known) // 2], known[-1]})


def _modes(target: Target, lot: Lot | None, draws: Draws) -> FoundModes | None:
    if lot is None:
        return None
    found = find_modes(target, {"draws": draws, "lot": Draws(jnp.asarray(lot.u), {})})
    if isinstance(found, NoModes) or len(found.members["lot"]) < len(lot.u):
        return None
    return found


def _masses(lot: Lot | None, modes: FoundModes | None) -> list[float]:
    """The target's mass in each basin: exact where its density at the lot is known."""
    if lot is None or modes is None:
        return []
    if lot.log_p is None:
        return modes.shares["draws"].tolist()
    mass, member = np.exp(lot.log_v + lot.log_p), modes.members["lot"]
    return np.bincount(member, mass, minlength=len(modes.names)).tolist()


def _below(of: np.ndarray, own: np.ndarray, other: np.ndarray, rule: IntegrationRule) -> Number:
    """Mass of one density below a level of another.

    Args:
        of: (n,) log of the density that has the level: its quantile under its own weights.
        own: (n,) weights of that density.
        other: (n,) weights of the density whose mass is measured.
    """
    order = np.argsort(of)
    level = of[order][np.searchsorted(np.cumsum(own[order]), LEVEL * own.sum())]
    below = np.where(of < level, other, 0.0)
    return _estimate(float(below.sum()), rule.error(below))


def _estimate(value: float, error: float) -> Number:
    return {"value": number(value), "standard_error": number(error)}


def _end(end: BranchEnd) -> dict[str, Any]:
    return {"alpha": float(end.alpha), "error": end.error, "how": end.how}


def _transition(one: Transition) -> dict[str, Any]:
    return {
        "alpha": one.alpha,
        "standard_error": one.standard_error,
        "from": one.below,
        "to": one.above,
        "jump": one.jump,
    }


def _short(x: np.ndarray) -> list[float]:
    """Four digits: curves are looked at."""
    return [float(f"{value:.4g}") for value in x]
