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
from vi_compare.errors import InputError
from vi_compare.report.page import environment, mark_of, style
from vi_compare.report.view import LONGEST, short

# Chips of one entry; more fits are counted. Characters of its description.
MOST_CHIPS, LINE = 8, 200


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
    """The run folders below `folder`, by name."""
    return sorted(path.parent for path in folder.rglob(RESULTS))


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
        return _shown(results, folder, where)
    except (InputError, KeyError, TypeError, AttributeError) as error:
        why = str(error) if isinstance(error, InputError) else "results.json is incomplete"
        return Entry(short(where, LONGEST), "", "", "", (), 0, why)


def _shown(results: dict[str, Any], folder: Path, where: str) -> Entry:
    target, fits = results["target"], results["fits"]
    line = " ".join((target.get("description") or "").partition("\n\n")[0].split())
    reference = target["reference"]
    facts = [
        results["environment"].get("created") or "",
        f"{target['dim']} dimension{'' if target['dim'] == 1 else 's'}",
        f"{len(fits)} fit{'' if len(fits) == 1 else 's'}",
        "no reference" if reference["source"] == "none" else f"reference: {reference['source']}",
    ]
    chips = tuple(_chip(fit) for fit in fits[:MOST_CHIPS])
    page = quote(f"{where}/{PAGE}") if (folder / PAGE).is_file() else ""
    return Entry(
        short(target["name"], LONGEST), page, short(line, LINE), " · ".join(filter(None, facts)),
        chips, len(fits) - len(chips),
    )  # fmt: skip


def _chip(fit: dict[str, Any]) -> Chip:
    verdict = fit["verdict"]
    return Chip(short(fit["name"], 40), verdict["word"], mark_of(verdict))
