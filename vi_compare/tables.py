"""Tables of numbers: a CSV file as named columns."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np

from vi_compare.errors import InputError


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
