"""A fit to go on with: what was measured, drawn again and asked further."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from numpyro.infer import MCMC, NUTS, Predictive

from vi_compare import families
from vi_compare.approximation import DrawsApproximation, GuideApproximation
from vi_compare.comparison.kept import KeptFit
from vi_compare.errors import InputError
from vi_compare.evidence import Draws
from vi_compare.randomness import key_for
from vi_compare.run.labels import FitLabel
from vi_compare.run.plans import Given, Plan, Planner, stand_in
from vi_compare.settings import Settings
from vi_compare.target import Target
from vi_compare.target.observing import Unobserved


@dataclass(frozen=True, eq=False, repr=False)
class Fitted(KeptFit):
    """A fit with its guide. Everything is computed in the precision that the comparison was made
    in, whatever JAX is set to, and comes back as NumPy arrays.

    Attributes:
        approximation: the guide at its parameters, or draws made elsewhere.
        target: what it approximates.
        key_label: the key of the draws that were measured derives from it, and from the seed.
        measured: how many these are.
        float32: the precision.
    """

    approximation: GuideApproximation | DrawsApproximation
    target: Target
    key_label: str
    seed: int
    measured: int
    float32: bool = False

    @property
    def guide(self) -> Callable | None:
        """The NumPyro guide; None of draws made elsewhere."""
        return self.approximation.guide

    @property
    def params(self) -> dict[str, Any]:
        """{parameter site: value}, as ``SVI.get_params`` returns them."""
        return self.approximation.params

    def sample(self, key: Array | None = None, n: int | None = None) -> dict[str, np.ndarray]:
        """{site or quantity: (n, ...)}: fresh draws, or without a key those that were measured.

        Args:
            n: how many; as many as were measured unless it is given.
        """
        return {k: np.asarray(v) for k, v in self._sample(key, n).values.items()}

    def _sample(self, key: Array | None, n: int | None) -> Any:
        with jax.enable_x64(not self.float32):
            key = key_for(self.seed, f"{self.key_label}/draws") if key is None else key
            return self.approximation.sample(key, n or self.measured)

    def log_prob(self, at: Mapping[str, Any] | Any) -> np.ndarray:
        """log q (n,) in nats, over the flat unconstrained vector.

        Args:
            at: u (n, d), as in fits.nc's ``unconstrained``, or {site: (n, ...)}.

        Raises:
            InputError: where log q is not known.
        """
        if not isinstance(self.approximation, GuideApproximation):
            raise InputError(f"log q of {self.name!r} is not known: {self.approximation.reason}")
        with jax.enable_x64(not self.float32):
            if isinstance(at, Mapping):
                sites = {s.name: jnp.asarray(at[s.name], float) for s in self.target.sites}
                at = jax.vmap(self.target.unconstrain)(sites)
            return np.asarray(self.approximation.at(Draws(jnp.asarray(at), {})).log_q)

    def predictive(self, key: Array, n: int | None = None, **data: Any) -> dict[str, np.ndarray]:
        """{site: (n, ...)}: what the model draws of all that it observes, by draws of the fit.

        Args:
            data: arguments of the model in place of those that it was fitted to, for data to come.
        """
        # Those that were measured, unless their number is another.
        draws = self._sample(None if n is None else jax.random.fold_in(key, 0), n)
        with jax.enable_x64(not self.float32):
            values = {site.name: draws.values[site.name] for site in self.target.sites}
            model = Unobserved(self.target.model)
            found = Predictive(model, values)(
                key, *self.target.args, **{**self.target.kwargs, **data}
            )
            return {name: np.asarray(value) for name, value in found.items()}

    def warm_start(self, chains: int = 4, most_dense: int = 300) -> WarmStart:
        """Where NUTS begins, and in which metric: draws of the fit, and their covariance. Where
        weights do not say that the fit is near the target, variances, which NUTS then adapts.

        Args:
            most_dense: dimensions up to which the whole covariance is used; beyond, variances.
        """
        draws, target = self._sample(None, None), self.target
        u = np.asarray(draws.u)
        # NumPyro joins sites in the order of their names.
        order = np.argsort([site.name for site in target.sites], kind="stable")
        own = u[:, np.concatenate([_places(target)[i] for i in order])]
        near = draws.usable_weights()[0] is not None
        dense = near and target.dim <= most_dense
        metric = np.atleast_2d(np.cov(own, rowvar=False)) if dense else own.var(axis=0)
        rows = np.linspace(0, len(u) - 1, chains).astype(int)
        return WarmStart(target.model, self._start(u[rows]), metric, dense, not near, chains)

    def _start(self, u: np.ndarray) -> dict[str, np.ndarray]:
        """u (chains, d) by site, as NumPyro takes it: without an axis for a single chain."""
        with jax.enable_x64(not self.float32):
            found = jax.vmap(self.target.unravel)(jnp.asarray(u))
        start = {name: np.asarray(value) for name, value in found.items()}
        return start if len(u) > 1 else {name: value[0] for name, value in start.items()}


def fitted(
    plan: Plan,
    q: GuideApproximation | DrawsApproximation,
    target: Target,
    settings: Settings,
    entry: Mapping[str, Any],
    node: Any,
) -> Fitted:
    """A plan's fit, with what is kept of it: `entry` of results.json, `node` of fits.nc."""
    known = (q, target, plan.full, settings.seed, settings.number_of_draws, settings.float32)
    return Fitted(plan.name, node, entry, *known)


def reopened(
    planner: Planner,
    wanted: FitLabel | Given,
    target: Target,
    settings: Settings,
    entry: Mapping[str, Any],
    node: Any,
) -> Fitted:
    """The same of a run that was saved: parameters are in results.json, large ones in fits.nc."""
    plan = planner.plan(wanted, stand_in(target))
    if plan.guide is None:
        assert isinstance(wanted, Given)
        return fitted(plan, wanted.approximation(target), target, settings, entry, node)
    arrays = {name: _array(value, name, node) for name, value in entry["params"].items()}
    guide = families.family(plan.guide).of_size(arrays)
    like = families.shapes(guide, target)
    q = GuideApproximation(guide, families.nested(arrays, like), target)
    return fitted(plan, q, target, settings, entry, node)


def _array(value: Any, name: str, node: Any) -> np.ndarray:
    return np.asarray(node["params"][name].values if isinstance(value, Mapping) else value)


def _places(target: Target) -> list[np.ndarray]:
    """Of every site, the entries of u that are its own."""
    ends = np.cumsum([site.size for site in target.sites])
    return [np.arange(end - site.size, end) for site, end in zip(target.sites, ends, strict=True)]


@dataclass(frozen=True, eq=False)
class WarmStart:
    """What saves NUTS its warm-up. ::

        start = comparison.fit("mvn/reverse-kl").warm_start()
        mcmc = start.mcmc(num_samples=1_000)
        mcmc.run(key, **data, init_params=start.init_params)

    Attributes:
        model: that it is for.
        init_params: {site: (chains, ...)} unconstrained, as NumPyro's ``MCMC.run`` takes them.
        inverse_mass_matrix: (d, d), or (d,) where it is diagonal, of the sites by their names.
        dense_mass: whether it is whole.
        adapts: whether NUTS is to learn its metric all the same, as the fit may be far off.
        chains: how many positions there are.
    """

    model: Callable
    init_params: dict[str, np.ndarray]
    inverse_mass_matrix: np.ndarray
    dense_mass: bool
    adapts: bool
    chains: int

    def kernel(self, **options: Any) -> NUTS:
        """NumPyro's NUTS in this metric."""
        own = {"dense_mass": self.dense_mass, "adapt_mass_matrix": self.adapts}
        return NUTS(self.model, inverse_mass_matrix=self.inverse_mass_matrix, **{**own, **options})

    @property
    def num_warmup(self) -> int:
        """Draws of warm-up: for the step size alone, or for the metric as well."""
        return 500 if self.adapts else 100

    def mcmc(self, num_samples: int, num_warmup: int | None = None, **options: Any) -> MCMC:
        """As many chains as there are positions."""
        warmup = self.num_warmup if num_warmup is None else num_warmup
        known = {"num_chains": self.chains, **options}
        return MCMC(self.kernel(), num_warmup=warmup, num_samples=num_samples, **known)
