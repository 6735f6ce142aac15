"""Data from a file, as the keyword arguments of a model."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from vi_compare.errors import InputError
from vi_compare.files.tables import read_by_ending, read_table


def read_data(path: Path, model: Callable) -> dict[str, Any]:
    """{argument of the model: number or array} from JSON, .npz, CSV or netCDF.

    Raises:
        InputError: when the file cannot be read, lacks what the model needs, holds what it
            does not take, or holds values that are not finite.
    """
    path = Path(path)
    data = read_by_ending(path, READERS, "data is")
    _fit_model(path, data, model)
    return {name: _checked(path, name, value) for name, value in data.items()}


def _fit_model(path: Path, data: dict[str, Any], model: Callable) -> None:
    parameters = inspect.signature(model).parameters.values()
    takes = [p.name for p in parameters if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    needs = [p.name for p in parameters if p.name in takes and p.default is p.empty]
    if missing := [name for name in needs if name not in data]:
        raise InputError(
            f"{path} holds no {', '.join(map(repr, missing))}, which the model needs; "
            f"it holds {', '.join(data) or 'nothing'}"
        )
    anything = any(p.kind is p.VAR_KEYWORD for p in parameters)
    if not anything and (extra := [name for name in data if name not in takes]):
        raise InputError(
            f"{path} holds {', '.join(map(repr, extra))}, which the model does not take; "
            f"it takes {', '.join(takes) or 'nothing'}"
        )


def _checked(path: Path, name: str, value: Any) -> Any:
    """The value as a number or an array, all finite."""
    try:
        array = np.asarray(value)
        array = array.astype(float) if array.dtype == object else array
    except (TypeError, ValueError):
        raise InputError(
            f"{path}: {name!r} is no array of numbers (its rows may be of different lengths)"
        ) from None
    if array.dtype.kind not in "biuf":
        raise InputError(f"{path}: {name!r} holds texts; give numbers")
    finite = np.isfinite(array)
    if not finite.all():
        place = [int(i) for i in np.argwhere(~finite)[0]]
        at = f" at {place}" if place else ""
        raise InputError(
            f"{path}: {name!r} is NaN or infinite{at}; leave such rows out, or code them"
        )
    return array if array.ndim else array.item()


def _json(path: Path) -> dict[str, Any]:
    data = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(data, dict):
        raise InputError(f"{path} holds a {type(data).__name__}; it must be {{argument: value}}")
    return data


def _npz(path: Path) -> dict[str, Any]:
    with np.load(path) as held:
        return {name: held[name] for name in held.files}


def _csv(path: Path) -> dict[str, Any]:
    """Columns of whole numbers as integers: they are often indices. Beyond 2⁵³ not every
    integer is a float, and a large float need not be meant as one."""
    whole = lambda x: (np.abs(x) <= 2**53).all() and (x == np.round(x)).all()
    return {n: x.astype(int) if whole(x) else x for n, x in read_table(path).items()}


def _netcdf(path: Path) -> dict[str, Any]:
    """Variables of the file, or of ArviZ's groups ``observed_data`` and ``constant_data``."""
    import xarray as xr

    with xr.open_datatree(path, engine="h5netcdf") as tree:
        groups = [tree[g] for g in ("constant_data", "observed_data") if g in tree.children]
        return {
            str(name): variable.values
            for group in groups or [tree]
            for name, variable in group.data_vars.items()
        }


READERS: dict[str, Callable[[Path], dict[str, Any]]] = {
    ".json": _json,
    ".npz": _npz,
    ".csv": _csv,
    ".nc": _netcdf,
}
