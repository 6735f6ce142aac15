"""Values that a script gives: numbers, texts and lists, looked at before they are used."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from numbers import Integral
from typing import TYPE_CHECKING, Any

from vi_compare.errors import InputError

if TYPE_CHECKING:  # `--help` reads settings and need not wait for numpy
    import numpy as np


def reals(value: Any, what: str) -> np.ndarray:
    """`value` as an array of finite real numbers, of whatever shape.

    Raises:
        InputError: when it is none; the sentence begins with `what`.
    """
    import numpy as np

    try:
        found = np.asarray(value)
        if found.dtype.kind not in "biuf":  # integers beyond 64 bits, say
            found = found.astype(float, casting="unsafe" if found.dtype.kind == "O" else "safe")
    except (TypeError, ValueError, OverflowError):
        raise InputError(f"{what} must be real numbers, in rows of one length") from None
    if not np.isfinite(found).all():
        raise InputError(f"{what} must be finite; NaN or infinity is among them")
    return found


def check_whole(value: Any, what: str, least: int) -> None:
    """Refuse anything but an integer of at least `least`."""
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise InputError(f"{what} must be a whole number, got {value!r}")
    if value < least:
        raise InputError(f"{what} must be at least {least}, got {value}")


def check_text(value: Any, what: str, *, empty: bool = False) -> None:
    """Refuse anything but a text; an empty one where that is no name."""
    if not isinstance(value, str):
        raise InputError(f"{what} must be a text, got {value!r}")
    if not (empty or value.strip()):
        raise InputError(f"{what} must not be empty")
    if not can_be_kept(value):
        raise InputError(f"{what}, {value!r:.60}, holds characters that no file can keep")


def can_be_kept(value: str) -> bool:
    """Whether JSON and netCDF can hold a text: no NUL, and no half of a surrogate pair."""
    return "\0" not in value and value == value.encode("utf-8", "replace").decode("utf-8")


def listed(value: Any, kind: Any, what: str, remedy: str) -> tuple:
    """What stands in a list, as a tuple; one alone is a list of one, and None of none.

    Raises:
        InputError: when it is no list, or something in it is not of `kind`.
    """
    if value is None:
        return ()
    if isinstance(value, kind):
        return (value,)
    if not isinstance(value, Iterable) or isinstance(value, Mapping | bytes):
        raise InputError(f"{what} is a {type(value).__name__}; {remedy}")
    found = tuple(value)
    for one in found:
        if not isinstance(one, kind):
            raise InputError(f"{what} holds {one!r:.60}; {remedy}")
    return found
