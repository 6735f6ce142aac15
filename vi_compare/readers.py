"""Files read by their ending, with one clear line when they cannot be."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

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
