"""The gallery: one page that links to the reports of many run folders, with their verdicts."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from vi_compare import formatting
from vi_compare.comparison import PAGE, RESULTS, read_results
from vi_compare.comparison.writing import SCRATCH
from vi_compare.errors import InputError
from vi_compare.report.page import environment, mark_of, style
from vi_compare.report.view import short, shown


@dataclass(frozen=True)
class Chip:
    """A fit and its verdict: `mark` as on the report."""

    fit: str
    word: str
    mark: str


@dataclass(frozen=True)
class Entry:
    """One report.

    Attributes:
        address: relative, percent-encoded; "" where the folder has no page.
        problem: why the folder cannot be shown, instead of all the rest.
    """

    name: str
    address: str
    line: str
    facts: str
    chips: tuple[Chip, ...]
    more: int
    problem: str = ""


def find(folder: Path) -> list[Path]:
    """The run folders below `folder`, by name; not what a killed run has left of one."""
    found = (path.parent for path in folder.rglob(RESULTS))
    return sorted(f for f in found if not any(part.startswith(SCRATCH) for part in f.parts))


def render_index(folders: list[Path], root: Path | None = None) -> str:
    """The gallery of these run folders as HTML text; links are relative to `root`.

    Without `root` it is the folder that holds all of them.
    """
    base = root or _common(folders)
    entries = [_entry(folder, base) for folder in sorted(folders)]
    template = environment().get_template("gallery.html.jinja")
    text = template.render(entries=entries, style=style(), title=_title(entries))
    return f"{text.strip()}\n"


def _common(folders: Sequence[Path]) -> Path:
    absolute = [str(folder.resolve()) for folder in folders]
    if len(absolute) == 1:
        return Path(absolute[0]).parent
    return Path(os.path.commonpath(absolute)) if absolute else Path()


def _title(entries: Sequence[Entry]) -> str:
    n = len(entries)
    return f"{formatting.words(n).capitalize()} comparison{'' if n == 1 else 's'}"


def _entry(folder: Path, base: Path) -> Entry:
    where = folder.resolve().relative_to(base.resolve()).as_posix()
    try:
        results = read_results(folder)
        return _read(results, folder, where)
    except InputError as error:
        return Entry(shown(where), "", "", "", (), 0, str(error))


def _read(
    results: dict[str, Any], folder: Path, where: str, most_fits: int = 8, line_length: int = 200
) -> Entry:
    """The entry of a folder whose results can be read.

    Args:
        where: the folder, relative to the gallery.
        most_fits: shown with their verdicts; more are counted.
        line_length: characters of the description.
    """
    target, fits = results["target"], results["fits"]
    line = " ".join((target.get("description") or "").partition("\n\n")[0].split())
    reference = target["reference"]
    facts = [
        results["environment"].get("created") or "",
        f"{target['dim']} dimension{'' if target['dim'] == 1 else 's'}",
        f"{len(fits)} fit{'' if len(fits) == 1 else 's'}",
        "no reference" if reference["source"] == "none" else f"reference: {reference['source']}",
    ]
    chips = tuple(_chip(fit) for fit in fits[:most_fits])
    page = quote(f"{where}/{PAGE}") if (folder / PAGE).is_file() else ""
    return Entry(
        shown(target["name"]), page, short(line, line_length), " · ".join(filter(None, facts)),
        chips, len(fits) - len(chips),
    )  # fmt: skip


def _chip(fit: dict[str, Any]) -> Chip:
    verdict = fit["verdict"]
    return Chip(short(fit["name"], 40), verdict["word"], mark_of(verdict))
