"""What a study can be asked to compare: labels, and parameters given as they stand."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import numpy as np

from vi_compare import catalogue, families
from vi_compare.approximation import set_up
from vi_compare.errors import InputError
from vi_compare.families import GaussianMixture
from vi_compare.labels import FitLabel, Part, parse_part
from vi_compare.randomness import key_for
from vi_compare.solvers import Solver
from vi_compare.solvers.given import GivenParameters
from vi_compare.target import Target


@dataclass(frozen=True)
class Given:
    """A fit from elsewhere, evaluated as it stands.

    Either `params`, {parameter site: value}, or for guides that are Gaussian mixtures
    `weights` (K,), `means` (K,) or (K, d), and `sds` (K,) or (K, d), over the flat
    unconstrained vector. ::

        Given("forward KL, as published", "mixture:2",
              weights=[0.52, 0.48], means=[-1.98, 1.97], sds=[0.41, 0.42])

    Attributes:
        name: what the comparison calls it.
        guide: label of the guide.
    """

    name: str
    guide: str
    params: Mapping[str, Any] | None = None
    weights: Sequence[float] | None = None
    means: Sequence[Any] | None = None
    sds: Sequence[Any] | None = None

    def parameters(self, guide: Callable, target: Target) -> dict[str, Any]:
        """The guide's parameters.

        Raises:
            InputError: when they are incomplete, of wrong shapes, or not possible.
        """
        if self.params is not None:
            return {name: jnp.asarray(value) for name, value in self.params.items()}
        if self.weights is None or self.means is None or self.sds is None:
            raise self._refuse("give params, or weights, means and sds")
        weights = np.asarray(self.weights, dtype=float)
        means, sds = (
            np.asarray(x, dtype=float).reshape(len(weights), -1) for x in (self.means, self.sds)
        )
        if means.shape != (len(weights), target.dim) or sds.shape != means.shape:
            raise self._refuse(f"means and sds must be of shape ({len(weights)}, {target.dim})")
        if len(weights) != families.num_components(guide):
            raise self._refuse(f"{self.guide} has not {len(weights)} components")
        if (weights <= 0).any() or abs(weights.sum() - 1) > 0.02 or (sds <= 0).any():
            raise self._refuse("weights must be positive and sum to 1, sds must be positive")
        covariances = np.stack([np.diag(row**2) for row in sds])
        mixture = GaussianMixture(
            jnp.asarray(weights / weights.sum()), jnp.asarray(means), jnp.asarray(covariances)
        )
        params = families.from_mixture(guide, mixture, target)
        if params is None:
            raise self._refuse(f"{self.guide} is no Gaussian mixture; give params")
        return params

    def _refuse(self, why: str) -> InputError:
        return InputError(f"the given fit {self.name!r}: {why}")


@dataclass(frozen=True)
class Plan:
    """One fit, made ready.

    Attributes:
        name: in the comparison.
        full: with all options; its random numbers derive from this.
        guide, divergence, solver: texts for people; divergence is None if nothing is fitted.
        objects: the guide, the divergence and the solver themselves.
    """

    name: str
    full: str
    guide: str
    divergence: str | None
    solver: str
    objects: tuple[Callable, Any, Solver]


class Planner:
    """Turns labels into plans; fits of the same guide share one guide object, so that
    what is compiled for one serves all."""

    def __init__(self, target: Target, reference, seed: int):
        self.target, self.reference, self.seed = target, reference, seed
        self.guides: dict[str, Callable] = {}

    def guide(self, part: Part) -> Callable:
        if part.full not in self.guides:
            guide = part.build(self.target.model)
            set_up(guide, self.target, key_for(self.seed, f"guide/{part.full}"))
            self.guides[part.full] = guide
        return self.guides[part.full]

    def plan(self, wanted: FitLabel | Given) -> Plan:
        if isinstance(wanted, Given):
            part = parse_part("guides", wanted.guide)
            guide = self.guide(part)
            solver = GivenParameters(wanted.parameters(guide, self.target))
            full = f"{part.full}/given/{wanted.name}"
            return Plan(wanted.name, full, part.text, None, "given", (guide, None, solver))
        guide = self.guide(wanted.guide)
        divergence = wanted.divergence.build(self.reference)
        chosen = wanted.solver or parse_part("solvers", _default_solver(guide, divergence))
        if catalogue.load("solvers", chosen.name).suits(guide, divergence) is None:
            raise InputError(
                f"{wanted.name}: the solver {chosen.name} cannot fit {wanted.guide.text} by "
                f"{wanted.divergence.text}; leave the solver out for the default"
            )
        full = "/".join(part.full for part in (wanted.guide, wanted.divergence, chosen))
        texts = (wanted.guide.text, wanted.divergence.text, chosen.text)
        return Plan(wanted.name, full, *texts, (guide, divergence, chosen.build()))


def _default_solver(guide: Callable, divergence: Any) -> str:
    """The solver of highest rank for the pair."""
    ranks = {
        name: rank
        for name, module in catalogue.load_all("solvers").items()
        if (rank := module.suits(guide, divergence)) is not None
    }
    return max(ranks, key=lambda name: ranks[name])
