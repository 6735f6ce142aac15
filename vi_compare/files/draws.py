"""Draws that somebody else made: ArviZ's netCDF, CSV, posteriordb's JSON."""

from __future__ import annotations

import json
import re
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from vi_compare.errors import InputError
from vi_compare.evidence import Draws
from vi_compare.files.tables import read_by_ending, read_table
from vi_compare.reference import check_draws
from vi_compare.target import Target

# {name: (chains, draws, ...)} as a file holds it.
Columns = dict[str, np.ndarray]


def holds_draws(name: str) -> bool:
    """Whether a file of this name can be read as draws."""
    return name.lower().endswith(tuple(READERS))


def read_draws(path: Path, target: Target, least: int = 400) -> Draws:
    """The draws of a file, as draws of `target`, one chain after another.

    Columns are matched to sites by name: ``mu``, ``beta[0]``, ``beta[1,2]`` or ``beta.1.2``,
    counted from 0 or from 1. Columns that are no site of the model are ignored.

    Args:
        path: of the file; its ending tells the format.
        target: whose draws they are.
        least: smallest number of draws, the ESS that a reference must have.

    Raises:
        InputError: when the file cannot be read, holds other parameters, too few draws,
            or values that are not finite or out of their support.
    """
    path = Path(path)
    columns = read_by_ending(path, READERS, "draws are")
    if not columns:
        raise InputError(f"{path} holds no draws")
    chains, n = next(iter(columns.values())).shape[:2]
    if chains * n < least:
        raise InputError(
            f"{path} holds {chains * n} draws, which are too few; give at least {least}"
        )
    values = {site.name: _site(path, columns, site.name, site.shape) for site in target.sites}
    flat = {name: value.reshape(chains * n, *value.shape[2:]) for name, value in values.items()}
    draws = check_draws(target, flat, chains * n, f"{path} holds")
    return Draws(draws.u, draws.values, draws.log_p, chains=chains)


def _site(path: Path, columns: Columns, name: str, shape: tuple[int, ...]) -> np.ndarray:
    """(chains, draws, *shape) of one site."""
    if name in columns:
        value = columns[name]
        if value.shape[2:] != shape:
            raise InputError(
                f"{path} holds {name!r} of shape {value.shape[2:]}; the model's is {shape}"
            )
        return value
    parts = {index: value for label, value in columns.items() if (index := _index(label, name))}
    if not parts:
        held = ", ".join(list(columns)[:8])
        raise InputError(f"{path} holds no {name!r}, which the model has; it holds {held}")
    first = min(min(index) for index in parts)
    wanted = list(np.ndindex(shape))
    got = {tuple(i - first for i in index): value for index, value in parts.items()}
    if sorted(got) != sorted(wanted):
        raise InputError(
            f"{path} holds {len(got)} entries of {name!r}; the model's is of shape {shape}, "
            f"which has {len(wanted)}"
        )
    stacked = np.stack([got[index] for index in wanted], axis=-1)
    return stacked.reshape(*stacked.shape[:2], *shape)


def _index(label: str, name: str) -> tuple[int, ...] | None:
    """``beta[1,2]`` or ``beta.1.2`` -> (1, 2), for the name ``beta``; None for others."""
    if not label.startswith(name):
        return None
    rest = label[len(name) :]
    if not re.fullmatch(r"\[\d+(,\s*\d+)*\]|(\.\d+)+", rest):
        return None
    return tuple(int(i) for i in re.findall(r"\d+", rest))


def _netcdf(path: Path) -> Columns:
    """ArviZ: a group ``posterior`` with dimensions chain and draw."""
    import xarray as xr

    with xr.open_datatree(path, engine="h5netcdf") as tree:
        if "posterior" not in tree.children:
            raise InputError(f"{path} has no group posterior; write it by arviz's to_netcdf")
        posterior = tree["posterior"].to_dataset().load()
    if not {"chain", "draw"} <= set(posterior.dims):
        raise InputError(f"{path}: its posterior has no dimensions chain and draw")
    return {
        str(name): v.transpose("chain", "draw", ...).values
        for name, v in posterior.data_vars.items()
        if {"chain", "draw"} <= set(v.dims)
    }


def _csv(path: Path) -> Columns:
    """A row a draw; a column ``chain`` (``.chain``, ``chain__``) tells chains apart."""
    table = read_table(path)
    plain = {name.strip("._").lower(): name for name in table}
    chain = table[plain["chain"]] if "chain" in plain else np.zeros(len(next(iter(table.values()))))
    rows = [chain == c for c in np.unique(chain)]
    if len({int(row.sum()) for row in rows}) > 1:
        raise InputError(f"{path}: its chains are of different lengths; cut them to one")
    own = [name for word, name in plain.items() if word not in ("chain", "draw", "iteration")]
    return {name: np.stack([table[name][row] for row in rows]) for name in own}


def _json(path: Path) -> Columns:
    """posteriordb: a list of chains, each {parameter: [draws]}."""
    if path.name.lower().endswith(".zip"):
        with zipfile.ZipFile(path) as archive:
            names = [name for name in archive.namelist() if name.endswith(".json")]
            if len(names) != 1:
                raise InputError(f"{path} holds {len(names)} JSON files; it must hold one")
            chains = json.loads(archive.read(names[0]))
    else:
        chains = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(chains, list) or not all(isinstance(c, Mapping) for c in chains):
        raise InputError(f"{path} must be a list of chains, each {{parameter: [draws]}}")
    return {name: np.array([c[name] for c in chains], dtype=float) for name in chains[0]}


READERS: dict[str, Callable[[Path], Columns]] = {
    ".nc": _netcdf,
    ".csv": _csv,
    ".json.zip": _json,
    ".json": _json,
}
