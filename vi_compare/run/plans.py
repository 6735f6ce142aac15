"""What a study can be asked to compare: labels, and parameters given as they stand."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from vi_compare import catalogue, families
from vi_compare.approximation import DrawsApproximation, GuideApproximation, set_up
from vi_compare.divergences import Divergence
from vi_compare.errors import InputError, blamed
from vi_compare.evidence import Draws
from vi_compare.families import GaussianMixture
from vi_compare.files.draws import holds_draws, read_draws
from vi_compare.files.found import Files
from vi_compare.files.objects import is_object
from vi_compare.randomness import key_for
from vi_compare.run.labels import (
    NO_GUIDES,
    FitLabel,
    Guides,
    Part,
    own_part,
    parse_label,
    parse_part,
)
from vi_compare.run.memory import require_for_guide, require_for_search
from vi_compare.solvers import Solver
from vi_compare.solvers.given import GivenDraws, GivenParameters
from vi_compare.target import Target
from vi_compare.values import check_text, listed, reals


@dataclass(frozen=True)
class Given:
    """A fit from elsewhere, evaluated as it stands.

    Either `params`, {parameter site: value}, or for guides that are Gaussian mixtures
    `weights` (K,), `means` (K,) or (K, d), and `sds` (K,) or (K, d), over the flat
    unconstrained vector. ::

        Given("forward KL, as published", "mixture:2",
              weights=[0.52, 0.48], means=[-1.98, 1.97], sds=[0.41, 0.42])

    Or `draws`: {site: (n, ...)}, a NumPyro MCMC, ArviZ's tree, or a file (ArviZ's netCDF, CSV,
    .npz, posteriordb's JSON), a folder, a pattern or a list of files, for example from Stan or
    PyMC. Their log q is not known, so what needs it is left out.

    Attributes:
        name: what the comparison calls it.
        guide: label of the guide, or the guide itself.
    """

    name: str
    guide: str | Callable = ""
    params: Mapping[str, Any] | None = None
    weights: Sequence[float] | None = None
    means: Sequence[Any] | None = None
    sds: Sequence[Any] | None = None
    draws: Files | Any | None = None

    def __post_init__(self):
        check_text(self.name, "the name of a given fit")
        if not callable(self.guide):
            check_text(self.guide, f"the given fit {self.name!r}: its guide", empty=True)
        if not isinstance(self.params, Mapping | None):
            raise self._refuse(f"params are {self.params!r}; give {{name: numbers}}")
        if not is_object(self.draws):
            listed(self.draws, str | Path, f"the given fit {self.name!r}: draws", "give files")
        if self.draws is not None and self._any_parameters():
            raise self._refuse("give draws, or parameters of a guide, and not both")

    def _any_parameters(self) -> bool:
        given = (self.params, self.weights, self.means, self.sds)
        return bool(self.guide) or any(value is not None for value in given)

    def approximation(self, target: Target) -> DrawsApproximation:
        """The given draws.

        Raises:
            InputError: when they cannot be read, or do not fit the model.
        """
        assert self.draws is not None
        called = f"the given fit {self.name!r}"
        return DrawsApproximation(read_draws(self.draws, target, called).draws, target)

    @property
    def guide_label(self) -> str:
        """What the guide is called."""
        return self.name if callable(self.guide) else self.guide

    def parameters(self, guide: Callable, target: Target) -> dict[str, Any]:
        """The guide's parameters.

        Raises:
            InputError: when they are incomplete, of wrong shapes, or not possible.
        """
        if self.params is not None:
            return self._named(guide, target, self.params)
        if self.weights is None or self.means is None or self.sds is None:
            raise self._refuse("give params, or weights, means and sds")
        weights = self._reals("weights", self.weights).reshape(-1)
        means, sds = (self._rows(x, len(weights), target.dim) for x in ("means", "sds"))
        if len(weights) != families.family(guide).num_components:
            raise self._refuse(f"{self.guide_label} has not {len(weights)} components")
        if (weights <= 0).any() or abs(weights.sum() - 1) > 0.02 or (sds <= 0).any():
            raise self._refuse("weights must be positive and sum to 1, sds must be positive")
        with np.errstate(over="ignore"):
            covariances = np.stack([np.diag(row**2) for row in sds])
        if not (np.isfinite(covariances).all() and (covariances.max((1, 2)) > 0).all()):
            raise self._refuse("sds are too large or too small to be squared")
        mixture = GaussianMixture(
            jnp.asarray(weights / weights.sum()), jnp.asarray(means), jnp.asarray(covariances)
        )
        if not families.family(guide).has_projection:
            raise self._refuse(f"{self.guide_label} is no Gaussian mixture; give params")
        return _projected(guide, mixture, target)

    def _named(self, guide: Callable, target: Target, params: Mapping[str, Any]):
        """`params` as the guide has them; a network's by the names that results.json has."""
        like = families.shapes(guide, target)
        wanted = {name: leaf.shape for name, leaf in families.arrays(like).items()}
        params = {name: self._reals(name, value) for name, value in params.items()}
        given = {name: value.shape for name, value in params.items()}
        if given != wanted:
            have, needs = (", ".join(f"{n} {s}" for n, s in x.items()) for x in (given, wanted))
            raise self._refuse(f"{self.guide_label} has the parameters {needs}; given are {have}")
        made = families.nested(params, like)
        if bad := families.impossible(guide, target, made):
            raise self._refuse(f"{bad[0]} has values that {self.guide_label} cannot have there")
        return made

    def _rows(self, what: str, k: int, dim: int) -> np.ndarray:
        """means or sds (k, dim), given so or as one number a component."""
        found = self._reals(what, getattr(self, what))
        if found.shape not in ((k, dim), *([(k,)] if dim == 1 else [])):
            raise self._refuse(f"{what} must be of shape ({k}, {dim}), not {found.shape}")
        return found.reshape(k, dim)

    def _reals(self, what: str, value: Any) -> np.ndarray:
        return reals(value, f"the given fit {self.name!r}: {what}")

    def _refuse(self, why: str) -> InputError:
        return InputError(f"the given fit {self.name!r}: {why}")


@partial(jax.jit, static_argnums=(0, 2))
def _projected(guide: Callable, mixture: GaussianMixture, target: Target) -> dict:
    """Parameters for a mixture, in one compiled program."""
    return families.family(guide).from_mixture(mixture, target)


def as_wanted(wanted: str | Path | FitLabel | Given, own: Guides = NO_GUIDES) -> FitLabel | Given:
    """What a study was asked for: a label, the name of a file of draws, or a `Given`.

    Raises:
        InputError: when a label cannot be read.
    """
    if isinstance(wanted, FitLabel | Given):
        return wanted
    if holds_draws(str(wanted)):
        return Given(Path(wanted).name, draws=wanted)  # of a pattern, too
    return parse_label(str(wanted), own)


@dataclass(frozen=True)
class Plan:
    """One fit, made ready.

    Attributes:
        name: in the comparison.
        full: with all options; its random numbers derive from this.
        guide: set up on the target; None for draws made elsewhere.
        divergence: None if nothing is fitted.
        solver: reaches the optimum.
        guide_text, divergence_text, solver_text: the same in words, for people.
    """

    name: str
    full: str
    guide: Callable | None
    divergence: Divergence | None
    solver: Solver
    guide_text: str
    divergence_text: str | None
    solver_text: str


def stand_in(target: Target, points: Array | None = None) -> Any:
    """In place of a reference, for what is only to be looked at: divergences ask it for draws."""
    some = jnp.zeros((2, target.dim)) if points is None else points
    return SimpleNamespace(train=Draws(some, {}))


class Planner:
    """Turns labels into plans; fits of the same guide share one guide object, so that
    what is compiled for one serves all. `own` are the script's guides."""

    def __init__(self, target: Target, seed: int, own: Guides = NO_GUIDES, restarts: int = 1):
        self.target, self.seed, self.own, self.restarts = target, seed, own, restarts
        self.guides: dict[str, Callable] = {}

    def guide(self, part: Part) -> Callable:
        """The guide of a label, set up.

        Raises:
            InputError: when it cannot be used on this target; the cause is said.
        """
        if part.full not in self.guides:
            guide = part.build(self.target.model)
            require_for_guide(part.text, guide, self.target)
            key = key_for(self.seed, f"guide/{part.full}")
            with blamed(f"the guide {part.text!r} cannot be used:"):
                set_up(guide, self.target, key)
            if part.own is not None:
                self._try(part.name, guide, key)
            self.guides[part.full] = guide
        return self.guides[part.full]

    def _try(
        self, name: str, guide: Callable, key: Array, divergence: Divergence | None = None
    ) -> None:
        """Trace a script's guide in all the ways that a comparison will ask of it."""

        def ask(key: Array):
            params = families.first_parameters(guide, self.target, key)
            q = GuideApproximation(guide, params, self.target)
            value = q.log_prob(q.draw(key))
            return value if divergence is None else divergence.estimate(key, q, self.target)

        with blamed(f"the guide {name!r} cannot be used:"):
            try:
                jax.eval_shape(ask, key)
            except InputError as error:
                raise InputError(f"the guide {name!r}: {error}") from error.__cause__

    def plan(self, wanted: FitLabel | Given, reference: Any) -> Plan:
        """One fit, made ready; `reference` has the draws that divergences may ask for.

        Raises:
            InputError: when what was asked for cannot be done.
        """
        if isinstance(wanted, Given) and wanted.draws is not None:
            where = _called(wanted.draws)
            drawn = GivenDraws(wanted.approximation(self.target))
            full = f"draws/given/{wanted.name}"
            return Plan(wanted.name, full, None, None, drawn, where, None, "given")
        if isinstance(wanted, Given):
            part = own_part(wanted.name, wanted.guide) if callable(wanted.guide) else None
            part = part or parse_part("guides", str(wanted.guide), self.own)
            guide = self.guide(part)
            solver: Solver = GivenParameters(wanted.parameters(guide, self.target))
            full = f"{part.full}/given/{wanted.name}"
            return Plan(wanted.name, full, guide, None, solver, part.text, None, "given")
        guide = self.guide(wanted.guide)
        divergence = wanted.divergence.build(reference)
        points = divergence.evaluations(families.family(guide).num_components).log_density
        require_for_search(wanted.name, points, self.restarts, self.target)
        if wanted.guide.own is not None:
            self._try(wanted.guide.name, guide, jax.random.key(0), divergence)
        default = _default_solver(guide, divergence)
        if default is None:
            raise InputError(
                f"{wanted.name}: no solver finds the size of {wanted.guide.text} by "
                f"{wanted.divergence.text}; say how many components to take"
            )
        chosen = wanted.solver or parse_part("solvers", default)
        if catalogue.load("solvers", chosen.name).suits(guide, divergence) is None:
            raise InputError(
                f"{wanted.name}: the solver {chosen.name} cannot fit {wanted.guide.text} by "
                f"{wanted.divergence.text}; leave the solver out for the default"
            )
        full = "/".join(part.full for part in (wanted.guide, wanted.divergence, chosen))
        texts = (wanted.guide.text, wanted.divergence.text, chosen.text)
        return Plan(wanted.name, full, guide, divergence, chosen.build(), *texts)


def _called(draws: Files | Mapping[str, Any]) -> str:
    """What draws made elsewhere are called on the page."""
    return Path(draws).name if isinstance(draws, str | Path) else "draws"


def _default_solver(guide: Callable, divergence: Any) -> str | None:
    """The solver of highest rank for the pair; None where none takes it."""
    ranks = {
        name: rank
        for name, module in catalogue.load_all("solvers").items()
        if (rank := module.suits(guide, divergence)) is not None
    }
    return max(ranks, key=lambda name: ranks[name], default=None)
