"""The one exception for what a user can mend: bad input, said in one line."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from pathlib import Path


class InputError(Exception):
    """Something the user gave cannot be used.

    The message is one line that names the cause and the remedy; the command
    line prints it on stderr and exits with status 2.
    """


def first_line(error: BaseException) -> str:
    """The first line of what an exception says; "" where it says nothing."""
    return str(error).strip().partition("\n")[0]


def told(error: BaseException) -> str:
    """An exception in one line: its type, and the first line of what it says."""
    return f"{type(error).__name__}: {first_line(error)}".removesuffix(": ")


def last_line(error: BaseException, file: str | None = None) -> str:
    """Where it was raised, "model.py, line 7": the innermost line of `file`, or else of what is
    no library's; "" where there is none."""
    frames = traceback.extract_tb(error.__traceback__)
    own = lambda frame: (
        "site-packages" not in frame.filename if file is None else (frame.filename == file)
    )
    mine = [frame for frame in frames if own(frame)]
    return f"{Path(mine[-1].filename).name}, line {mine[-1].lineno}" if mine else ""


@contextmanager
def blamed(words: str) -> Iterator[None]:
    """Whatever a user's own code raises inside becomes one line that begins with `words`.

    ``sys.exit`` in a model would otherwise end the command as if all were well. Ctrl-C is
    nobody's fault and passes.

    Raises:
        InputError: with the exception as its cause.
    """
    try:
        yield
    except (InputError, KeyboardInterrupt):
        raise
    except BaseException as error:
        raise InputError(f"{words} {told(error)}") from error


def guarded(function: Callable, words: str) -> Callable:
    """A user's function whose every call is `blamed`; ``inspect.unwrap`` gives it back."""

    @wraps(function, updated=())
    def call(*args, **kwargs):
        with blamed(words):
            return function(*args, **kwargs)

    return call


def nearest(name: str, known: list[str]) -> str:
    """ "did you mean a or b?", or the whole list when nothing is near."""
    import difflib

    close = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    if close:
        return f"did you mean {' or '.join(close)}?"
    return f"there is {', '.join(sorted(known)) or 'none'}"
