"""Draws as an ``xarray.DataTree`` that ArviZ reads: what ``fits.nc`` holds."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr
from arviz_base import from_dict

from vi_compare import families
from vi_compare.errors import InputError, first_line
from vi_compare.evidence import Draws
from vi_compare.predictions.observed import Observed
from vi_compare.reference import Reference
from vi_compare.reference.trail import LEVELS, Trail
from vi_compare.run.facts import LARGEST, Measured
from vi_compare.run.predicting import Predicted, Predictor
from vi_compare.target.naming import Coordinate
from vi_compare.values import can_be_kept

# Maximum size of the draws of one fit, in bytes; more are thinned.
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
    predictor: Predictor | None = None,
) -> xr.DataTree:
    """The tree that `Comparison.draws` describes.

    Args:
        run: fingerprint of the results that it belongs to.
        groups: name of the group of every fit.
        curves: grid over u (g,), log p on it (g,) and log q of every fit (fits, g).
        dims: {site: name of every axis of its value}.
        most_bytes: maximum size of the draws of one fit; more are thinned, None keeps all.
        predictor: knows what of the data is predicted.
    """
    parts: dict[str, xr.Dataset] = {"/": xr.Dataset(attrs={"run": run, "schema": 1})}
    if reference:
        parts |= _draws("reference", _thinned(reference.test, most_bytes), "reference", dims)
        if way := reference.passage:
            parts["reference/inside"], parts["reference/outside"] = map(
                _trail, (way.inside, way.outside)
            )
        if predictor:
            parts |= _predicted("reference", predictor, predictor.reference)
    for m, group in zip(measured, groups, strict=True):
        parts |= _fit(m, f"fits/{group}", dims, most_bytes)
        if predictor:
            parts |= _predicted(f"fits/{group}", predictor, m.predicted)
    if curves:
        grid, log_p, log_q = curves
        parts["curves"] = xr.Dataset(
            {"log_p": ("grid", log_p), "log_q": (("fit", "grid"), log_q)},
            coords={"u": ("grid", grid), "fit": [m.plan.name for m in measured]},
        )
    return xr.DataTree.from_dict(parts)


def _fit(
    m: Measured, path: str, dims: Mapping[str, tuple[str, ...]], most_bytes: int | None
) -> dict[str, xr.Dataset]:
    """The groups of one fit."""
    parts = {path: xr.Dataset(attrs={"name": m.plan.name})}
    if m.evidence:
        parts |= _draws(path, _thinned(m.evidence.q, most_bytes), m.plan.name, dims)
        if m.evidence.test is not None and m.evidence.test.log_q is not None:
            log_q = np.asarray(_thinned(m.evidence.test, most_bytes).log_q)
            parts[f"{path}/at_reference"] = xr.Dataset({"log_q": ("draw", log_q)})
    if m.drift:
        parts[f"{path}/drift"] = _trail(m.drift.way)
    if m.fit.losses.size:
        losses = ("restart", "step"), compact(m.fit.losses)
        parts[f"{path}/optimisation"] = xr.Dataset({"loss": losses})
    return parts | _large(m, path)


def _trail(trail: Trail) -> xr.Dataset:
    """Quantiles of every margin, as chains went on."""
    dims = ("iteration", "margin", "level")
    return xr.Dataset(
        {"quantile": (dims, trail.quantiles), "standard_error": (dims, trail.errors)},
        coords={"iteration": trail.iterations, "margin": list(trail.labels), "level": list(LEVELS)},
    )


def compact(losses: np.ndarray) -> np.ndarray:
    """Losses in single precision, which is more than a figure shows, where all fit into its
    range: a search that begins far away can pass through 1e40 nats."""
    sizes = np.abs(losses[np.isfinite(losses)])
    fits = sizes.max(initial=0.0) <= np.finfo(np.float32).max
    return losses.astype(np.float32) if fits else losses


def _thinned(draws: Draws, most_bytes: int | None) -> Draws:
    """The draws, every chain thinned so that values and u stay under `most_bytes`."""
    if most_bytes is None:
        return draws
    size = sum(np.asarray(a).nbytes for a in (draws.u, *draws.values.values()))
    return draws.every(max(1, -(-size // most_bytes)))


def _draws(
    path: str, draws: Draws, name: str, named: Mapping[str, tuple[str, ...]]
) -> dict[str, xr.Dataset]:
    """Draws in ArviZ's groups; independent ones are a single chain."""
    in_chains = lambda a: np.reshape(a, (max(1, draws.chains), -1, *np.shape(a)[1:]))
    there = kept_names(list(draws.values))
    densities = {"log_p": draws.log_p, "log_q": draws.log_q}
    tree = from_dict(
        {
            "posterior": {there[site]: in_chains(a) for site, a in draws.values.items()},
            "sample_stats": {k: in_chains(a) for k, a in densities.items() if a is not None},
        },
        sample_dims=["chain", "draw"],
        dims={
            there[site]: list(map(_allowed, own)) for site, own in named.items() if site in there
        },
        coords={
            _allowed(dim): list(coordinate)
            for site, own in draws.coords
            for dim, coordinate in zip(named[site], own, strict=True)
            if coordinate is not None
        },
        check_conventions=False,  # a plate may be called "sample"
        attrs={"posterior": {"name": name}},
    )
    for site, own in there.items():
        tree["posterior"][own].attrs["site"] = site
    parts = {f"{path}/{group}": node.to_dataset() for group, node in tree.children.items()}
    unconstrained = xr.Dataset({"u": (("draw", "coordinate"), np.asarray(draws.u))})
    return parts | {f"{path}/unconstrained": unconstrained}


def _predicted(
    path: str, predictor: Predictor, predicted: Predicted | None
) -> dict[str, xr.Dataset]:
    """ArviZ's ``log_likelihood``, with log_p and log_q of the draws asked as coordinates,
    ``posterior_predictive``, ``observed_data``; and ``loo_pit``, ranks of the observations."""
    if predicted is None or not predicted.at:
        return {}
    draws, chains = predicted.draws, max(1, predicted.draws.chains)
    split = lambda a: np.reshape(a, (chains, -1, *np.shape(a)[1:]))
    densities = {"log_p": draws.log_p, "log_q": draws.log_q}
    at: dict[str, Any] = {
        k: (("chain", "draw"), split(a)) for k, a in densities.items() if a is not None
    }
    at |= {"chain": np.arange(chains), "draw": split(predicted.rows)[0]}
    found = {name: xr.Dataset() for name in ("posterior_predictive", "observed_data", "loo_pit")}
    found["log_likelihood"] = xr.Dataset(coords=at)
    there = kept_names([site.name for site in predictor.sites])
    for site in (site for site in predictor.sites if site.name in predicted.at):
        said, check = predicted.at[site.name], predicted.checks.get(site.name)
        values = {
            "log_likelihood": split(_single(said.log_lik)),
            "posterior_predictive": said.replicates
            if said.replicates is None
            else split(_single(said.replicates)),
            "observed_data": site.values,
            "loo_pit": check.ranks if check else None,
        }
        for group, a in values.items():
            if a is not None:
                sampled = group in ("log_likelihood", "posterior_predictive")
                found[group][there[site.name]] = _of_observations(
                    site, a, predictor.target.naming.coords, sampled
                )
    return {f"{path}/{name}": data for name, data in found.items() if data.data_vars}


def _single(values: np.ndarray) -> np.ndarray:
    """In single precision, which is more than any sum of them needs."""
    return values.astype(np.float32) if values.dtype.kind == "f" else values


def _of_observations(
    site: Observed, a: np.ndarray, named: Mapping[str, Coordinate], sampled: bool
) -> xr.DataArray:
    """(..., n, ...) of a site's observations, with the site's own axes where all of them were
    looked at."""
    lead = ("chain", "draw") if sampled else ()
    own = {"site": site.name}
    event = tuple(f"{site.name}_event_{i}" for i in range(a.ndim - len(lead) - 1))
    if len(site.rows) < int(np.prod(site.shape)):
        dim = f"{site.name}_observation"
        dims = tuple(map(_allowed, (dim, *event)))
        return xr.DataArray(a, {dims[0]: site.rows}, (*lead, *dims), attrs=own)
    a = a.reshape(*a.shape[: len(lead)], *site.shape, *a.shape[len(lead) + 1 :])
    coords = {_allowed(dim): list(named[dim]) for dim in site.dims if dim in named}
    return xr.DataArray(a, coords, (*lead, *map(_allowed, (*site.dims, *event))), attrs=own)


def kept_names(sites: Sequence[str]) -> dict[str, str]:
    """{site: its name in fits.nc}, all different. netCDF keeps "/" for groups; NumPyro's scope
    handler puts it into site names."""
    out = {site: site for site in sites if "/" not in site}
    for site in (site for site in sites if "/" in site):
        name = site.replace("/", ".")
        while name in out.values():
            name += "_"
        out[site] = name
    return out


def refuse_what_cannot_be_kept(draws: Draws, dims: Mapping[str, tuple[str, ...]]) -> None:
    """Refuse names of sites and plates that fits.nc or results.json could not hold: told after
    the fits, that would cost all of them.

    Args:
        draws: some draws of the target, two are enough.
        dims: {site: name of every axis of its value}.

    Raises:
        InputError: naming the site.
    """
    for name in (*dims, *(dim for own in dims.values() for dim in own)):
        if not isinstance(name, str) or not can_be_kept(name) or not name.strip("./ "):
            raise InputError(
                f"the site or plate {name!r:.80} cannot be kept in a file; give it a name of "
                f"letters and digits"
            )
    for name in ("chain", "draw"):
        if name in dims:
            raise InputError(
                f"the site {name!r} cannot be kept in a file, where ArviZ has its {name}s under "
                f"that name; give it another one"
            )
    try:
        xr.DataTree.from_dict(_draws("reference", draws, "reference", dims))
    except (ValueError, TypeError) as error:
        raise InputError(
            f"draws of the sites {', '.join(map(repr, dims))} cannot be kept in one file "
            f"({first_line(error)}); give sites and plates other names"
        ) from error


def _allowed(dim: str) -> str:
    """A plate may be called what netCDF keeps for groups, or what ArviZ keeps for draws."""
    dim = dim.replace("/", ".")
    return f"{dim}_" if dim in ("chain", "draw") else dim


def _dims(site: str, n: int) -> tuple[str, ...]:
    return tuple(f"{site}_dim_{i}" for i in range(n))


def _large(m: Measured, path: str) -> dict[str, xr.Dataset]:
    """Parameters that are too large for results.json."""
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
