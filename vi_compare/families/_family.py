"""`Family`: every ability that a guide may offer, and the register of who offers what."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import singledispatch
from typing import Any, NamedTuple

import numpy as np
from jax import Array

from vi_compare.families._parameters import moved_parameters
from vi_compare.gaussian.frames import Frame
from vi_compare.gaussian.gaussians import FullRank, MeanField
from vi_compare.gaussian.kernels import Kernel
from vi_compare.gaussian.low_rank import LowRank
from vi_compare.guide_trace import GuideTrace
from vi_compare.target import Target


class GaussianMixture(NamedTuple):
    """weights (K,), means (K, d) and covariances (K, d, d) over u."""

    weights: Array
    means: Array
    covariances: Array


class Covariances(StrEnum):
    """The covariances that a kind of Gaussian can have."""

    FULL = "full rank"
    LOW_RANK = "low rank"
    DIAGONAL = "mean field"


@dataclass(frozen=True)
class Family:
    """What a guide can be asked for; here, what holds for any guide.

    A property says None, False or 1 for what is not offered. Everything is over u (d,), the
    target's flat unconstrained vector; parameters are constrained values.

    Attributes:
        guide: an ``AutoGuide``, set up where a method has a `target`, or a function.

    Raises:
        TypeError: from a method that gives parameters, where the property beside it says that
            it is not offered.
    """

    guide: Any

    # --- q itself ------------------------------------------------------------------------

    def draw(self, params: dict, target: Target, key: Array) -> Array:
        """One draw u (d,), reparameterised or not."""
        return GuideTrace(self.guide, params, target).draw(key)

    def log_prob(self, params: dict, target: Target, u: Array) -> Array:
        """log q(u) () in nats."""
        return GuideTrace(self.guide, params, target).log_prob(u)

    def strata(self, params: dict, target: Target, key: Array, n: int) -> tuple[Array, Array]:
        """Log weights (K,) of q's parts and n reparameterised draws of each, (K, n, d)."""
        return GuideTrace(self.guide, params, target).strata(key, n)

    @property
    def num_components(self) -> int:
        """K, the number of strata: what one stratified draw costs in evaluations of log p."""
        return 1

    # --- as a mixture of Gaussians -----------------------------------------------------------

    def to_mixture(self, params: dict, target: Target) -> GaussianMixture | None:
        """The Gaussian mixture that q is at `params`."""
        return None

    @property
    def has_projection(self) -> bool:
        """Whether `from_mixture` gives parameters, so that EM can fit the guide."""
        return False

    @property
    def diagonal_components(self) -> bool:
        """Whether the M-step of EM keeps the diagonal of every component's covariance."""
        return False

    def from_mixture(self, mixture: GaussianMixture, target: Target) -> dict:
        """Parameters of the forward-KL projection of `mixture` on the family.

        A single Gaussian takes the mean and covariance (or its diagonal) of the only
        component. A mixture of diagonal Gaussians takes every diagonal, which is the
        projection where the components are diagonal already.
        """
        raise self._not_offered("it has no closed-form projection")

    @property
    def kernel(self) -> Kernel | None:
        """What the components of a mixture are, where `from_components` gives parameters."""
        return None

    def from_components(
        self,
        weights: np.ndarray,
        means: np.ndarray,
        roots: np.ndarray,
        dfs: np.ndarray,
        target: Target,
    ) -> dict:
        """Parameters for K components of weights (K,), means (K, d), covariances or scale matrices
        F Fᵀ, with roots F (K, d, d), by which no digit is lost, and degrees of freedom (K,)."""
        raise self._not_offered("it is no mixture of Gaussians or Student t")

    @property
    def grows(self) -> bool:
        """Whether the number of its components is for a solver to find; `num_components` is then
        1, and stands for none."""
        return False

    def with_components(self, number: int) -> Any:
        """The guide itself with so many components, set up as this one is."""
        return self.guide

    def of_size(self, params: Mapping[str, Any]) -> Any:
        """The guide itself, of the size that parameters {name: array} have."""
        return self.guide

    # --- as one Gaussian ---------------------------------------------------------------------

    @property
    def covariances(self) -> Covariances | None:
        """Of a guide that is one Gaussian with a free mean: which covariances it can have."""
        return None

    @property
    def holds(self) -> Covariances | None:
        """Which Gaussians are members of the family, all of them: at a target that is one,
        the best fit is perfect."""
        return None

    def gaussian(self, params: dict, target: Target) -> FullRank | MeanField | None:
        """The Gaussian that q is at `params`, for full rank and mean field."""
        return None

    def from_gaussian(self, mean: np.ndarray, factor: np.ndarray, target: Target) -> dict:
        """Parameters for a mean (d,) and a covariance F Fᵀ, F (d, d), or its diagonal.

        From the factor itself, because a covariance loses half of the digits that its factor
        has.
        """
        raise self._not_offered("it is no single Gaussian of full rank or mean field")

    def rank(self, dim: int) -> int:
        """Columns of the factor of a Gaussian of low rank, in `dim` dimensions."""
        raise self._not_offered("it is no Gaussian of low rank")

    def from_low_rank(self, q: LowRank, target: Target) -> dict:
        """Parameters for a Gaussian of low rank."""
        raise self._not_offered("it is no Gaussian of low rank")

    @property
    def sits_at_a_mode(self) -> bool:
        """Whether q is a Gaussian at a mode of log p with the curvature there, as Laplace's
        approximation is: only the mode is to be found."""
        return False

    def at_mode(self, u: np.ndarray, target: Target) -> dict:
        """Parameters for the mode u (d,)."""
        raise self._not_offered("its covariance is not the curvature at its mean")

    # --- carried from the frame of a Gaussian --------------------------------------------------

    @property
    def can_be_framed(self) -> bool:
        """Whether `in_frame` gives parameters."""
        return False

    def in_frame(self, params: dict, target: Target, frame: Frame) -> dict:
        """Parameters that describe q over v, u = mean + tril v -> those that describe it over u.

        Families of independent coordinates cannot be turned, so v is then in units of scales:
        those of each coordinate given the others, or, for a low-rank guide, its own.
        """
        raise self._not_offered("it cannot be carried from one frame to another")

    @property
    def begins_as_its_frame(self) -> bool:
        """Whether `as_its_frame` gives parameters: the best Gaussian is then a member, and a
        place to begin from."""
        return False

    def as_its_frame(self, params: dict, target: Target) -> dict:
        """First parameters -> those at which q over v is the standard normal exactly, so that
        `in_frame` makes it the Gaussian of a frame."""
        raise self._not_offered("it does not begin as a Gaussian")

    def shaped(self, params: dict, target: Target, frame: Frame) -> dict:
        """Start parameters over v with as much of the frame's covariance as v leaves out."""
        return params

    # --- where to start ------------------------------------------------------------------------

    def spread(self, params: dict, target: Target, key: Array, points: Array) -> dict:
        """Start parameters for one restart, placed by random `points` (m, d), m ≥ components.

        Without this every restart of an AutoGuide starts at the same place: it keeps the
        prototype of its first call. A hand-written guide is started afresh, and then has its
        parameters moved by a standard normal each, in their unconstrained space.
        """
        moved = moved_parameters(self.guide, target, key)
        return params | {name: moved[name] for name in params if name in moved}

    def _not_offered(self, why: str) -> TypeError:
        return TypeError(f"{type(self.guide).__name__}: {why}")


@singledispatch
def family(guide: Callable) -> Family:
    """The family of a guide, by its type or the nearest of its base classes."""
    return Family(guide)


def register[F: type[Family]](guide: type) -> Callable[[F], F]:
    """Class decorator: the family of guides of this type."""

    def put(kind: F) -> F:
        family.register(guide, kind)
        return kind

    return put
