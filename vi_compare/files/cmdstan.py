"""What CmdStan and its relatives write beside the draws: comments, and columns of their own."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from vi_compare.errors import InputError


@dataclass(frozen=True)
class Comments:
    """What the comments of a CmdStan file say.

    Attributes:
        method: "sample", "variational", ...; "" where nothing is said.
        warmup: rows at the beginning that are warm-up.
    """

    method: str = ""
    warmup: int = 0


def read_comments(path: Path) -> Comments:
    """The comments of a CSV file, CmdStan's or not.

    Where warm-up was saved, CmdStan writes "Adaptation terminated" behind its rows; a run
    without adaptation has no such line, but its number of iterations.

    Raises:
        InputError: when the comments of several chains stand in one file.
    """
    said: dict[str, str] = {}
    rows, ends = -1, []  # the header is no row
    with path.open(encoding="utf-8-sig", errors="replace") as file:
        for line in file:
            if not line.startswith("#"):
                rows += bool(line.strip())
            elif pair := re.match(r"#\s*(\w+)\s*=\s*(\S+)", line):
                said.setdefault(pair[1], pair[2])
            elif "Adaptation terminated" in line:
                ends.append(rows)
    if len(ends) > 1:
        raise InputError(
            f"{path} holds {len(ends)} chains of CmdStan, one after another; give their files "
            f"as they were, by a folder or a pattern"
        )
    saved = said.get("save_warmup", "0") in ("1", "true")
    return Comments(
        said.get("method", ""), max([*ends, _warmup(said) if saved and not ends else 0])
    )


def _warmup(said: Mapping[str, str]) -> int:
    """Rows of warm-up that are kept: every `thin`-th, the first among them."""
    try:
        return -(-int(said["num_warmup"]) // int(said.get("thin", "1")))
    except (KeyError, ValueError, ZeroDivisionError):
        return 0


@dataclass(frozen=True)
class Approximate:
    """A method of CmdStan whose draws are those of an approximation.

    Attributes:
        method: as CmdStan calls it.
        log_p, log_q: columns of both log densities, up to constants.
        means: rows at the beginning that hold the mean, and are no draws.
    """

    method: str
    log_p: str
    log_q: str
    means: int = 0


# The columns of log q tell them apart where a file has lost its comments.
APPROXIMATE = (
    Approximate("variational", "log_p__", "log_g__", means=1),
    Approximate("laplace", "log_p__", "log_q__"),
    Approximate("pathfinder", "lp__", "lp_approx__"),
)


def approximate(comments: Comments, columns: Iterable[str]) -> Approximate | None:
    """The approximation that a file's draws come from; None for draws of the target."""
    held = set(columns)
    found = (a for a in APPROXIMATE if a.method == comments.method or a.log_q in held)
    return next(found, None)
