"""Files read by their ending, and a CSV file as named columns of numbers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from vi_compare.errors import InputError, first_line

if TYPE_CHECKING:  # most runs read no table, and need not wait for it
    import pandas as pd


def read_by_ending[T](path: Path, readers: Mapping[str, Callable[[Path], T]], what: str) -> T:
    """What the reader of the file's ending makes of it; `what` is "data is" or "draws are".

    Raises:
        InputError: when no reader has that ending, there is no such file, or its reader
            raises; the cause is said.
    """
    reader = next((r for ending, r in readers.items() if path.name.lower().endswith(ending)), None)
    if reader is None:
        raise InputError(
            f"{path} is of no kind that {what} read from; give one of {', '.join(readers)}"
        )
    if not path.is_file():
        raise InputError(f"there is no file {path}; give a file of {what.partition(' ')[0]}")
    try:
        return reader(path)
    except InputError:
        raise
    except Exception as error:  # whatever is wrong with a file
        said = f"{type(error).__name__}: {first_line(error)}"
        raise InputError(f"{path} cannot be read: {said}") from error


def read_table(path: Path) -> dict[str, np.ndarray]:
    """{column: (rows,) numbers} of a CSV file: a header, then a line for each row.

    What follows a # is a comment, as in Stan's files; a byte order mark, as in Excel's, is
    skipped.

    Raises:
        InputError: naming the row and the column that are wrong; the header is row 1.
    """
    rows = _texts(path)
    if len(rows) < 2:
        raise InputError(f"{path} has no rows; give a header and a row for each")
    names = [name.strip() for name in rows.iloc[0]]
    if len(set(names)) < len(names):
        raise InputError(f"{path} has two columns of the same name; rename one")
    body = rows.iloc[1:].to_numpy(dtype=object)
    try:
        numbers = body.astype(float)
    except ValueError:
        raise _no_number(path, names, body) from None
    return dict(zip(names, numbers.T, strict=True))


def _texts(path: Path) -> pd.DataFrame:
    """All cells as texts, the header among them; a missing cell is "", as is an empty one."""
    import pandas as pd

    try:
        return pd.read_csv(
            path, header=None, dtype=str, keep_default_na=False, comment="#", encoding="utf-8-sig"
        )
    except pd.errors.EmptyDataError:
        return pd.DataFrame()


def _no_number(path: Path, names: list[str], body: np.ndarray) -> InputError:
    """Which cell or row is the first that is wrong, and how."""
    for number, row in enumerate(body, 2):
        filled = [i for i, text in enumerate(row, 1) if text.strip()]
        if (length := max(filled, default=0)) < len(names):
            return InputError(f"{path}, row {number}: {length} values for {len(names)} columns")
        for name, text in zip(names, row, strict=True):
            if not _is_number(text):
                where = f"{path}, row {number}, column {name!r}"
                return InputError(f"{where}: it holds {text!r} where a number is due")
    return InputError(f"{path} holds texts where numbers are due")


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
