"""One fit of a comparison, or its reference, as it is kept: draws, densities, parameters."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from vi_compare.errors import InputError
from vi_compare.estimate import Coordinates, entries
from vi_compare.psis import usable_weights

if TYPE_CHECKING:
    import xarray as xr


@dataclass(frozen=True, eq=False)
class KeptFit:
    """Attributes:
    name: in the comparison; "reference" for draws of the target.
    node: its groups in ``fits.nc``, an ``xarray.DataTree`` that ArviZ reads.
    facts: its entry in ``results.json``; empty of the reference.
    """

    name: str
    node: xr.DataTree
    facts: Mapping[str, Any]

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name!r}: {', '.join(self.node.children)}>"

    @property
    def draws(self) -> dict[str, np.ndarray]:
        """{site or quantity: (n, ...)}, one chain after another."""
        self._group("posterior")
        return drawn(self.node)[0]

    @property
    def entries(self) -> dict[str, np.ndarray]:
        """{label of an entry: (n,)}, as tables and figures name them."""
        return entries(*drawn(self.node))

    def reweighted(self, n: int | None = None, seed: int = 0) -> dict[str, np.ndarray]:
        """Draws of the target: the fit's, resampled by Pareto-smoothed weights (Vehtari et al.
        2024), {site: (n, ...)}; as many as there are unless n is given.

        Raises:
            InputError: where the weights are not known, or too heavy to be used.
        """
        weights = self._weights()
        rows = np.random.default_rng(seed).choice(weights.size, n or weights.size, p=weights)
        return {name: values[rows] for name, values in self.draws.items()}

    def _weights(self) -> np.ndarray:
        known = self._group("sample_stats")
        if not {"log_p", "log_q"} <= set(known.data_vars):
            raise InputError(f"the weights of {self.name!r} are not known: it has no log q")
        log_w = _flat(known["log_p"]) - _flat(known["log_q"])
        if not np.isfinite(log_w).all():
            raise InputError(f"{self.name!r} cannot be reweighted: some weights are not finite")
        weights, reason = usable_weights(log_w)
        if weights is None:
            raise InputError(f"{self.name!r} cannot be reweighted: {reason}")
        return weights / weights.sum()

    def _group(self, name: str) -> Any:
        if name not in self.node.children:
            raise InputError(f"the fit {self.name!r} has no draws: it failed")
        return self.node[name]


def drawn(node: Any) -> tuple[dict[str, np.ndarray], dict[str, Coordinates]]:
    """{site: (n, ...)}, one chain after another, and {site: coordinates of its axes}, of a group of
    ``fits.nc``; empty where it holds no draws."""
    if node is None or "posterior" not in node.children:
        return {}, {}
    held = {str(v.attrs.get("site", k)): v for k, v in node["posterior"].data_vars.items()}
    along = lambda v: tuple(tuple(v[dim].values.tolist()) for dim in v.dims[2:])
    return {s: _flat(v) for s, v in held.items()}, {s: along(v) for s, v in held.items()}


def _flat(a: Any) -> np.ndarray:
    """(chain, draw, ...) -> (n, ...)"""
    values = np.asarray(a.values)
    return values.reshape(-1, *values.shape[2:])
