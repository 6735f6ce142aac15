"""Which files are meant: one, several, those of a folder, those of a pattern."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from vi_compare.errors import InputError
from vi_compare.settings import matching

# What a user may write where draws are meant.
Files = str | Path | Sequence[str | Path]


def find_files(given: Files, endings: Iterable[str]) -> tuple[Path, ...]:
    """The files that `given` means, one a chain or all in one, in the order of their numbers.

    Args:
        given: a file; a folder, whose files of the first ending that any of them has are
            taken; a pattern with ``*``, ``?`` or ``[...]``; or a list of these.
        endings: of files that can be read, in order of preference.

    Raises:
        InputError: when nothing is there, or a file is named twice.
    """
    several = [given] if isinstance(given, str | Path) else list(given)
    found = [path for one in several for path in _meant(Path(one), tuple(endings))]
    if not found:
        raise InputError("there is no file of draws; give at least one")
    if twice := {path for path in found if found.count(path) > 1}:
        raise InputError(f"{min(twice)} is given twice; name each file once")
    return tuple(found)


def holds_files(text: str, endings: Iterable[str]) -> bool:
    """Whether a word names files that can be read: by its ending, or as a folder of some."""
    path, endings = Path(text), tuple(endings)
    return text.lower().endswith(endings) or (
        text != "" and path.is_dir() and bool(_inside(path, endings))
    )


def _meant(path: Path, endings: tuple[str, ...]) -> list[Path]:
    if not (found := matching(path)):
        raise InputError(f"there is no file {path}; give a file, a folder or a pattern of draws")
    if len(found) > 1 or not found[0].is_dir():
        return sorted(found, key=_number)
    if not (inside := _inside(found[0], endings)):
        raise InputError(f"the folder {path} holds no file that ends in {', '.join(endings)}")
    return inside


def _inside(folder: Path, endings: tuple[str, ...]) -> list[Path]:
    names = sorted((p for p in folder.iterdir() if p.is_file()), key=_number)
    of = lambda ending: [p for p in names if p.name.lower().endswith(ending)]
    return next(filter(None, map(of, endings)), [])


def _number(path: Path) -> list[tuple[str, int]]:
    """Chain 10 comes after chain 9."""
    return [(text, int(digits or 0)) for text, digits in re.findall(r"(\D*)(\d*)", str(path))]
