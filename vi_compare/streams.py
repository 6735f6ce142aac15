"""Standard output and standard error that cannot fail: what a terminal cannot take is lost, and
work is not."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO


def spelled(text: str, encoding: str) -> str:
    """The text as far as the encoding has it: a minus stays a minus, 10⁻⁵ becomes 10^-5, and
    what cannot be spelled is a question mark."""
    try:
        text.encode(encoding)
        return text
    except UnicodeEncodeError:
        return _in_ascii(text).encode(encoding, "replace").decode(encoding)


def _in_ascii(text: str) -> str:
    """Our own signs by others, the rest as it is."""
    signs: dict[str, str | int | None] = {
        "−": "-", "–": "-", "±": "+-", "×": "x", "÷": "/", "…": "...", "“": '"', "”": '"',
        "’": "'", "→": "->", "\u00a0": " ", "\u2009": " ", "α": "alpha", "µ": "u", "‖": "||",
        "\u0302": "-hat", "✓": "ok", "✗": "x", "≤": "<=", "≥": ">=",
    }  # fmt: skip
    raised = str.maketrans("⁻⁰¹²³⁴⁵⁶⁷⁸⁹", "-0123456789")
    powers = re.sub("[⁻⁰¹²³⁴⁵⁶⁷⁸⁹]+", lambda found: f"^{found[0].translate(raised)}", text)
    return powers.translate(str.maketrans(signs))


class Stream:
    """A text stream that never raises.

    Attributes:
        stream: where it writes.
        lost: why nothing is written any more, or None.
    """

    def __init__(self, stream: TextIO, lost: Exception | None = None):
        self.stream, self.lost = stream, lost

    def write(self, text: str) -> int:
        if self.lost is None:
            try:
                self.stream.write(spelled(text, self.stream.encoding or "utf-8"))
            except (OSError, ValueError) as error:  # ValueError: it was closed
                self.lost = error
        return len(text)

    def flush(self) -> None:
        if self.lost is None:
            try:
                self.stream.flush()
            except (OSError, ValueError) as error:
                self.lost = error

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)

    @property
    def trouble(self) -> str:
        """Why something was lost, in words; "" where nothing was, or where whoever read it has
        read enough, as `head` does."""
        self.flush()
        if self.lost is None or isinstance(self.lost, BrokenPipeError):
            return ""
        return getattr(self.lost, "strerror", None) or str(self.lost)

    def excused(self) -> str:
        """The trouble there was, which is from now on none."""
        why = self.trouble
        if why:
            self.lost = BrokenPipeError()
        return why


@contextlib.contextmanager
def unfailing() -> Iterator[Stream]:
    """Standard output and error as `Stream`; gives standard output.

    One that was closed is replaced by the null device, which then has its number: a file that
    is opened later would get it, and what a library prints.
    """
    closed = OSError(errno.EBADF, os.strerror(errno.EBADF))
    with Path(os.devnull).open("w", encoding="utf-8") as nothing:
        out, err = (
            Stream(nothing, closed) if stream is None else Stream(stream)
            for stream in (sys.stdout, sys.stderr)
        )
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            try:
                yield out
            finally:
                out.flush()
                err.flush()
