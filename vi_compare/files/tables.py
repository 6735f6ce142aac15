"""Files read by their ending, and a CSV file as named columns of numbers."""

from __future__ import annotations

import csv
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


class NumberTable(dict[str, np.ndarray]):
    """{column: (rows,) numbers} of a CSV file.

    Attributes:
        unnamed: whether a first column without a name, as R and pandas write row numbers,
            was left out.
    """

    unnamed: bool = False


# What stands for a missing value, in small letters: R's, Excel's, pandas's and SQL's words.
MISSING = ("", "na", "n/a", "#n/a", "<na>", "nan", "null", "none")


def read_table(path: Path, *, gaps: bool = False) -> NumberTable:
    """A CSV file: a header, then a line for each row.

    What follows a # is a comment, as in Stan's files; a byte order mark, as in Excel's, is
    skipped; a first column without a name is left out.

    Args:
        gaps: whether a missing value (an empty cell, NA) is read as NaN; refused otherwise.

    Raises:
        InputError: naming the row and the column that are wrong; the header is row 1.
    """
    _refuse_separators(path)
    rows = _texts(path)
    if len(rows) < 2:
        raise InputError(f"{path} has no rows; give a header and a row for each")
    names = [name.strip() for name in rows.iloc[0]]
    body = rows.iloc[1:].to_numpy(dtype=object)
    unnamed = len(names) > 1 and names[0] in ("", "Unnamed: 0")
    first = int(unnamed)
    if len(set(names[first:])) < len(names[first:]):
        raise InputError(f"{path} has two columns of the same name; rename one")
    numbers = _numbers(path, names[first:], body[:, first:], gaps)
    table = NumberTable(zip(names[first:], numbers.T, strict=True))
    table.unnamed = unnamed
    return table


def _texts(path: Path) -> pd.DataFrame:
    """All cells as texts, the header among them; a missing cell is "", as is an empty one."""
    import pandas as pd

    try:
        return pd.read_csv(
            path, header=None, dtype=str, keep_default_na=False, comment="#", encoding="utf-8-sig"
        )
    except pd.errors.EmptyDataError:
        return pd.DataFrame()


def _refuse_separators(path: Path) -> None:
    """Decimal commas would be read as two numbers."""
    with path.open(encoding="utf-8-sig", errors="replace") as file:
        header = next((line for line in file if line.strip() and not line.startswith("#")), "")
    for mark, name in ((";", "semicolons"), ("\t", "tabs")):
        if mark in header and "," not in header:
            raise InputError(
                f"{path} parts its columns by {name}; write it with commas between columns and "
                f"points in numbers"
            )


def _numbers(path: Path, names: list[str], body: np.ndarray, gaps: bool) -> np.ndarray:
    """(rows, columns) of the cells as numbers."""
    try:
        return body.astype(float)
    except ValueError:
        _refuse_short_rows(path)
    filled = np.where(np.vectorize(_is_missing, otypes=[bool])(body), "nan", body)
    try:
        numbers = filled.astype(float)
    except ValueError:
        raise _no_number(path, names, filled) from None
    if not gaps:
        raise _no_number(path, names, body)
    return numbers


def _is_missing(text: str) -> bool:
    return text.strip().lower() in MISSING


def _refuse_short_rows(path: Path) -> None:
    """pandas fills short rows up with empty cells, which then look like missing values."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.reader(line.partition("#")[0] for line in file))
    rows = [row for row in rows if len(row) > 1 or "".join(row).strip()]
    for number, row in enumerate(rows, 1):
        if len(row) < len(rows[0]):
            raise InputError(f"{path}, row {number}: {len(row)} values for {len(rows[0])} columns")


def _no_number(path: Path, names: list[str], body: np.ndarray) -> InputError:
    """Which cell is the first that is wrong, and how."""
    for number, row in enumerate(body, 2):
        for name, text in zip(names, row, strict=True):
            where = f"{path}, row {number}, column {name!r}"
            if text.strip().lower() != "nan" and _is_missing(text):
                return InputError(f"{where}: a value is missing; leave such rows out")
            if not _is_number(text):
                return InputError(f"{where}: it holds {text!r} where a number is due")
    return InputError(f"{path} holds texts where numbers are due")


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
