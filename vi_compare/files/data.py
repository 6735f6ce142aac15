"""Data from a file, as the keyword arguments of a model."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from vi_compare.errors import InputError
from vi_compare.files import json_text
from vi_compare.files.tables import read_by_ending, read_table


class FileData(dict[str, Any]):
    """{argument of the model: number or array} as a file gave them.

    Attributes:
        path: of the file.
        columns: whether the arguments are columns of a table.
        told: what was done in reading it that its owner should know, in clauses.
    """

    def __init__(
        self,
        path: Path,
        values: Mapping[str, Any],
        *,
        columns: bool = False,
        told: tuple[str, ...] = (),
    ):
        super().__init__(values)
        self.path, self.columns, self.told = path, columns, told

    def where(self, name: str, indices: list[tuple[int, ...]]) -> str:
        """Where entries of an argument stand in the file; the header of a table is row 1."""
        if self.columns:
            rows = ", ".join(str(index[0] + 2) for index in indices)
            return f"{self.path}, column {name!r}, row {rows}"
        return f"{self.path}: {entries(name, indices)}"


def entries(name: str, indices: list[tuple[int, ...]]) -> str:
    """ "'y' at [3], [0, 1]"; an index of a number is empty."""
    places = ", ".join(str(list(index)) for index in indices if index)
    return f"{name!r} at {places}" if places else repr(name)


def read_data(path: Path, model: Callable) -> FileData:
    """The arguments of `model` from JSON, .npz, CSV or netCDF. A missing value is NaN; whether
    the model can be run with it is for the model to say.

    Raises:
        InputError: when the file cannot be read, lacks what the model needs, holds what it
            does not take, or holds what is no number.
    """
    path = Path(path)
    data = read_by_ending(path, READERS, "data is")
    _fit_model(path, data, model)
    values = {name: _checked(path, name, value) for name, value in data.items()}
    return FileData(path, values, columns=data.columns, told=data.told)


def _fit_model(path: Path, data: Mapping[str, Any], model: Callable) -> None:
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
    """The value as a number or an array; JSON's null by itself stays None."""
    if value is None:
        return None
    try:
        array = np.asarray(value)
        array = array.astype(float) if array.dtype == object else array
    except OverflowError:
        raise InputError(f"{path}: {name!r} holds a number beyond 1.8e308; rescale it") from None
    except (TypeError, ValueError):
        raise InputError(
            f"{path}: {name!r} is no array of numbers (its rows may be of different lengths)"
        ) from None
    if array.dtype.kind not in "biuf":
        raise InputError(f"{path}: {name!r} holds texts; give numbers")
    if not array.size:
        raise InputError(f"{path}: {name!r} is empty; give its numbers, or leave it out")
    return array if array.ndim else array.item()


def _json(path: Path) -> FileData:
    data = json_text.parse(path.read_bytes(), str(path))
    if not isinstance(data, dict):
        raise InputError(f"{path} holds a {type(data).__name__}; it must be {{argument: value}}")
    return FileData(path, data)


def _npz(path: Path) -> FileData:
    with np.load(path) as held:
        return FileData(path, {name: held[name] for name in held.files})


def _csv(path: Path) -> FileData:
    """Columns of whole numbers as integers: they are often indices. Beyond 2⁵³ not every
    integer is a float, and a large float need not be meant as one."""
    whole = lambda x: (np.abs(x) <= 2**53).all() and (x == np.round(x)).all()
    table = read_table(path, gaps=True)
    values = {n: x.astype(int) if whole(x) else x for n, x in table.items()}
    told = ("its first column has no name (row numbers?) and was left out",) * table.unnamed
    return FileData(path, values, columns=True, told=told)


def _netcdf(path: Path) -> FileData:
    """Variables of the file, or of ArviZ's groups ``observed_data`` and ``constant_data``."""
    import xarray as xr

    with xr.open_datatree(path, engine="h5netcdf") as tree:
        groups = [tree[g] for g in ("constant_data", "observed_data") if g in tree.children]
        held = {
            str(name): variable.values
            for group in groups or [tree]
            for name, variable in group.data_vars.items()
        }
    return FileData(path, held)


READERS: dict[str, Callable[[Path], FileData]] = {
    ".json": _json,
    ".npz": _npz,
    ".csv": _csv,
    ".nc": _netcdf,
}
