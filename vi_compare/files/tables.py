"""Files read by their ending, and a CSV file as named columns of numbers."""

from __future__ import annotations

import csv
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from vi_compare.errors import InputError


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
        first = str(error).strip().partition("\n")[0]
        raise InputError(f"{path} cannot be read: {type(error).__name__}: {first}") from error


def read_table(path: Path) -> dict[str, np.ndarray]:
    """{column: (rows,) numbers}; a header, then a row a line; lines with # are left aside.

    Raises:
        InputError: naming the row or the text that is wrong.
    """
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.reader(line for line in file if line.strip() and not line.startswith("#")))
    if len(rows) < 2:
        raise InputError(f"{path} has no rows; give a header and a row for each")
    header, *body = rows
    if bad := next((i for i, row in enumerate(body, 2) if len(row) != len(header)), None):
        raise InputError(
            f"{path}, row {bad}: {len(body[bad - 2])} values for {len(header)} columns"
        )
    names = [name.strip() for name in header]
    if len(set(names)) < len(names):
        raise InputError(f"{path} has two columns of the same name; rename one")
    table = [[_number(path, text) for text in row] for row in body]
    return dict(zip(names, np.array(table).T, strict=True))


def _number(path: Path, text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise InputError(f"{path} holds {text!r} where a number is due") from None
