"""Draws as an ``xarray.DataTree`` that ArviZ reads: what ``fits.nc`` holds."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import numpy as np
import xarray as xr

from vi_compare import families
from vi_compare.evidence import Draws
from vi_compare.reference import Reference
from vi_compare.run.facts import LARGEST, Measured

# Draws of one fit are thinned to this many bytes.
MOST_BYTES = 50_000_000


def group_names(names: Sequence[str]) -> list[str]:
    """One group name a fit: letters, digits and what netCDF allows, all different."""
    out: list[str] = []
    for name in names:
        base = group = re.sub(r"[^A-Za-z0-9.=-]+", "_", name).strip("_.") or "fit"
        number = 1
        while group in out:
            number += 1
            group = f"{base}__{number}"
        out.append(group)
    return out


def draws_tree(
    run: str,
    reference: Reference | None,
    measured: Sequence[Measured],
    groups: Sequence[str],
    curves: tuple[np.ndarray, np.ndarray, np.ndarray] | None,
    dims: Mapping[str, tuple[str, ...]],
    most_bytes: int | None = MOST_BYTES,
) -> xr.DataTree:
    """See `Comparison.draws`; `dims` names the axes of every site. Draws of more than
    `most_bytes` are thinned, None keeps all."""
    parts: dict[str, xr.Dataset] = {"/": xr.Dataset(attrs={"run": run, "schema": 1})}
    if reference:
        parts |= _draws("reference", _thinned(reference.test, most_bytes), "reference", dims)
    for m, group in zip(measured, groups, strict=True):
        path = f"fits/{group}"
        parts[path] = xr.Dataset(attrs={"name": m.plan.name})
        if m.evidence:
            parts |= _draws(path, _thinned(m.evidence.q, most_bytes), m.plan.name, dims)
            if m.evidence.test is not None and m.evidence.test.log_q is not None:
                log_q = np.asarray(_thinned(m.evidence.test, most_bytes).log_q)
                parts[f"{path}/at_reference"] = xr.Dataset({"log_q": ("draw", log_q)})
        if m.fit.losses.size:
            losses = ("restart", "step"), m.fit.losses.astype(np.float32)
            parts[f"{path}/optimisation"] = xr.Dataset({"loss": losses})
        parts |= _large(m, path)
    if curves:
        grid, log_p, log_q = curves
        parts["curves"] = xr.Dataset(
            {"log_p": ("grid", log_p), "log_q": (("fit", "grid"), log_q)},
            coords={"u": ("grid", grid), "fit": [m.plan.name for m in measured]},
        )
    return xr.DataTree.from_dict(parts)


def _thinned(draws: Draws, most_bytes: int | None) -> Draws:
    """Every so many-th draw, so that values and u stay under `most_bytes`."""
    size = sum(np.asarray(a).nbytes for a in (draws.u, *draws.values.values()))
    return draws if most_bytes is None else draws[:: max(1, -(-size // most_bytes))]


def _draws(
    path: str, draws: Draws, name: str, named: Mapping[str, tuple[str, ...]]
) -> dict[str, xr.Dataset]:
    posterior = {}
    for site, value in draws.values.items():
        a = np.asarray(value)[None]
        # netCDF keeps "/" for groups; numpyro's scope handler puts it into site names.
        name_there = site.replace("/", ".")
        own = named.get(site, _dims(name_there, a.ndim - 2))
        dims = ("chain", "draw", *map(_allowed, own))
        posterior[name_there] = (dims, a, {"site": site})
    densities = {"log_p": draws.log_p, "log_q": draws.log_q}
    stats = {
        key: (("chain", "draw"), np.asarray(value)[None])
        for key, value in densities.items()
        if value is not None
    }
    coords = {"chain": [0], "draw": np.arange(len(draws))}
    u = np.asarray(draws.u)
    return {
        f"{path}/posterior": xr.Dataset(posterior, coords=coords, attrs={"name": name}),
        f"{path}/sample_stats": xr.Dataset(stats, coords=coords),
        f"{path}/unconstrained": xr.Dataset({"u": (("draw", "coordinate"), u)}),
    }


def _allowed(dim: str) -> str:
    """A plate may be called what netCDF keeps for groups, or what ArviZ keeps for draws."""
    dim = dim.replace("/", ".")
    return f"{dim}_" if dim in ("chain", "draw") else dim


def _dims(site: str, n: int) -> tuple[str, ...]:
    return tuple(f"{site}_dim_{i}" for i in range(n))


def _large(m: Measured, path: str) -> dict[str, xr.Dataset]:
    """Parameters that are too large for facts.json."""
    q = m.fit.approximation
    if q is None:
        return {}
    mixture = q.mixture()
    kinds = {"params": families.arrays(q.params), "mixture": mixture._asdict() if mixture else {}}
    out = {}
    for kind, arrays in kinds.items():
        large = {k: np.asarray(v) for k, v in arrays.items() if np.size(v) > LARGEST}
        if large:
            named = {k: (_dims(k, v.ndim), v) for k, v in large.items()}
            out[f"{path}/{kind}"] = xr.Dataset(named)
    return out
