"""Draws as an ``xarray.DataTree`` that ArviZ reads: what ``fits.nc`` holds."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from vi_compare import families, results
from vi_compare.evidence import Draws
from vi_compare.reference import Reference
from vi_compare.target import Target

if TYPE_CHECKING:
    from vi_compare.running import Measured

# Draws of one fit are thinned to this many bytes.
MOST_BYTES = 50_000_000


def group_names(names: Sequence[str]) -> list[str]:
    """One group name a fit: letters, digits and what netCDF allows, all different."""
    out: list[str] = []
    for name in names:
        base = re.sub(r"[^A-Za-z0-9.=-]+", "_", name).strip("_.") or "fit"
        taken = sum(other == base or other.startswith(f"{base}__") for other in out)
        out.append(f"{base}__{taken + 1}" if taken else base)
    return out


def build(
    run: str,
    target: Target,
    reference: Reference | None,
    measured: Sequence[Measured],
    groups: Sequence[str],
    curves: tuple[np.ndarray, np.ndarray, np.ndarray] | None,
) -> xr.DataTree:
    """See `Comparison.draws`."""
    parts: dict[str, xr.Dataset] = {"/": xr.Dataset(attrs={"run": run, "schema": 1})}
    if reference:
        parts |= _draws("reference", reference.test, {"name": "reference"})
    for m, group in zip(measured, groups, strict=True):
        path = f"fits/{group}"
        parts[path] = xr.Dataset(attrs={"name": m.plan.name})
        if m.evidence:
            parts |= _draws(path, m.evidence.q, {"name": m.plan.name})
            if m.evidence.test is not None and m.evidence.test.log_q is not None:
                log_q = np.asarray(m.evidence.test.log_q)
                thin = _thin(m.evidence.test)
                parts[f"{path}/at_reference"] = xr.Dataset({"log_q": ("draw", log_q[thin])})
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


def _draws(path: str, draws: Draws, attrs: Mapping[str, Any]) -> dict[str, xr.Dataset]:
    thin = _thin(draws)
    posterior, stats = {}, {}
    for site, value in draws.values.items():
        a = np.asarray(value)[thin][None]
        posterior[site] = (("chain", "draw", *_dims(site, a.ndim - 2)), a)
    for name in ("log_p", "log_q"):
        if (value := getattr(draws, name)) is not None:
            stats[name] = (("chain", "draw"), np.asarray(value)[thin][None])
    u = np.asarray(draws.u)[thin]
    coords = {"chain": [0], "draw": np.arange(len(u))}
    return {
        f"{path}/posterior": xr.Dataset(posterior, coords=coords, attrs=dict(attrs)),
        f"{path}/sample_stats": xr.Dataset(stats, coords=coords),
        f"{path}/unconstrained": xr.Dataset({"u": (("draw", "coordinate"), u)}),
    }


def _dims(site: str, n: int) -> tuple[str, ...]:
    return tuple(f"{site}_dim_{i}" for i in range(n))


def _thin(draws: Draws) -> slice:
    """Every so many-th draw, so that values and u stay under `MOST_BYTES`."""
    size = sum(np.asarray(a).nbytes for a in (draws.u, *draws.values.values()))
    return slice(None, None, max(1, -(-size // MOST_BYTES)))


def _large(m: Measured, path: str) -> dict[str, xr.Dataset]:
    """Parameters that are too large for results.json."""
    q = m.fit.approximation
    if q is None:
        return {}
    mixture = families.to_mixture(q.guide, q.params, q.target)
    kinds = {"params": q.params, "mixture": mixture._asdict() if mixture else {}}
    out = {}
    for kind, arrays in kinds.items():
        large = {k: np.asarray(v) for k, v in arrays.items() if np.size(v) > results.LARGEST}
        if large:
            named = {k: (_dims(k, v.ndim), v) for k, v in large.items()}
            out[f"{path}/{kind}"] = xr.Dataset(named)
    return out
