"""A run folder, read: whatever has become of its files ends in one line, not in a traceback."""

from __future__ import annotations

import json
import math
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vi_compare.comparison.writing import CHECKSUM, DRAWS, PATH, RESULTS, checksum
from vi_compare.errors import InputError, told

if TYPE_CHECKING:
    import xarray as xr
    from jsonschema import Draft202012Validator


def read_results(folder: Path) -> dict[str, Any]:
    """results.json of a run folder.

    Raises:
        InputError: when there is none, or it is not of schema 1 (``results.schema.json``); the
            first place that is wrong is named.
    """
    path = folder / RESULTS
    try:
        text = path.read_text(encoding="utf-8")
    except OSError:
        raise InputError(
            f"{folder} holds no {RESULTS}; give a folder that `vi-compare run` has written"
        ) from None
    except ValueError:
        raise InputError(f"{path} is not valid JSON; run it again") from None
    results = _parsed(text, path)
    if not isinstance(results, dict) or results.get("schema") != 1:
        raise InputError(f"{path} is not of schema 1; run it again with this version")
    if wrong := next(_schema().iter_errors(results), None):
        raise InputError(
            f"{path} is not of schema 1: {wrong.json_path:.80} {_what(wrong)}; run it again with "
            f"this version"
        )
    return results


def read_draws(folder: Path, run: str) -> xr.DataTree:
    """fits.nc of a run folder, in memory.

    Raises:
        InputError: when it cannot be read, or is not of the run with this fingerprint.
    """
    import xarray as xr

    path = folder / DRAWS
    try:
        _refuse_damaged(path, folder / CHECKSUM)
        with xr.open_datatree(path, engine="h5netcdf") as tree:
            draws = tree.load()
    except InputError:
        raise
    except Exception as error:  # HDF5, h5py and xarray each have their own for a broken file
        said = error.strerror if isinstance(error, OSError) and error.strerror else told(error)
        raise InputError(f"{path} cannot be read ({said}); run it again") from error
    if draws.attrs.get("run") != run:
        raise InputError(f"{RESULTS} and {DRAWS} in {folder} are not of one run; run it again")
    return draws


def _refuse_damaged(path: Path, noted: Path) -> None:
    """Hold a file against the checksum beside it; one that came without is believed.

    Raises:
        InputError: when it is not what was written.
        OSError: when it cannot be read.
    """
    if noted.is_file() and noted.read_bytes() != checksum(path).encode():
        raise InputError(f"{path} is not the file that was written, by {noted.name}; run it again")


def read_path(folder: Path, run: str) -> dict[str, Any] | None:
    """path.json of the same run, where there is one.

    Raises:
        InputError: when there is one that cannot be read.
    """
    file = folder / PATH
    if not file.exists():
        return None
    try:
        path = _parsed(file.read_text(encoding="utf-8"), file)
    except (OSError, UnicodeDecodeError):
        raise InputError(f"{file} cannot be read; remove it, or run `vi-compare path`") from None
    return path if isinstance(path, dict) and path.get("run") == run else None


def _parsed(text: str, path: Path) -> Any:
    """JSON whose numbers are all finite and at most 64 bits.

    Raises:
        InputError: when it is none.
    """
    try:
        return json.loads(
            text, parse_constant=_no_number, parse_float=_finite, parse_int=_of_64_bits
        )
    except (ValueError, RecursionError):
        raise InputError(f"{path} is not valid JSON; run it again") from None


def _no_number(text: str) -> float:
    raise ValueError(f"{text} is no JSON")


def _finite(text: str) -> float:
    value = float(text)
    return value if math.isfinite(value) else _no_number(text)


def _of_64_bits(text: str) -> int:
    value = int(text)
    if abs(value) >= 2**64:
        raise ValueError(f"{text} has more than 64 bits")
    return value


@cache
def _schema() -> Draft202012Validator:
    from jsonschema import Draft202012Validator

    text = files("vi_compare").joinpath("results.schema.json").read_text(encoding="utf-8")
    return Draft202012Validator(json.loads(text))


def _what(wrong: Any) -> str:
    """What the schema has against a value; its own words repeat the value, however long."""
    message = str(wrong.message)
    shown = repr(wrong.instance)
    return message.replace(shown, shown if len(shown) < 40 else "it")[:200]
