"""Place is registration: a file in ``guides/``, ``divergences/``, ``solvers/`` or
``metrics/`` is an entry, its name (underscores as hyphens) is the name on the command
line, and the first line of what it builds is the line that ``vi-compare list`` shows.
A leading underscore means a helper, not an entry.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Callable
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any, get_type_hints

from vi_compare.errors import InputError, nearest

KINDS = ("guides", "divergences", "solvers", "metrics")


@cache
def names(kind: str) -> tuple[str, ...]:
    """Names of all entries of one kind, read from the folder without importing anything."""
    folder = Path(__file__).parent / kind
    found = (m.name for m in pkgutil.iter_modules([str(folder)]))
    return tuple(sorted(name.replace("_", "-") for name in found if not name.startswith("_")))


def load(kind: str, name: str, others: tuple[str, ...] = ()) -> ModuleType:
    """The module of one entry.

    Raises:
        InputError: when there is none of that name; it lists the nearest, of the
            catalogue and of `others`, names from elsewhere that would have done.
    """
    if name not in names(kind):
        singular = kind.removesuffix("s")
        known = [*names(kind), *others]
        raise InputError(f"no {singular} is called {name!r}; {nearest(name, known)}")
    return importlib.import_module(f"vi_compare.{kind}.{name.replace('-', '_')}")


def load_all(kind: str) -> dict[str, ModuleType]:
    return {name: load(kind, name) for name in names(kind)}


def summary(function: Callable) -> str:
    """First line of a docstring."""
    return (inspect.getdoc(function) or "").partition("\n")[0]


def options(build: Callable) -> dict[str, inspect.Parameter]:
    """What ``build(given, ...)`` can be asked for: its parameters with a default."""
    parameters = inspect.signature(build).parameters.values()
    return {p.name: p for p in parameters if p.default is not p.empty}


def resolve(build: Callable, label: str, given: dict[str | None, str]) -> dict[str, Any]:
    """Option texts of a label -> values, by the annotations of `build`, defaults filled in.

    The key None stands for the option given by value alone, as in ``mixture:2``.

    Raises:
        InputError: for an unknown option or a value of the wrong type.
    """
    known, hints = options(build), get_type_hints(build)
    values = {name: parameter.default for name, parameter in known.items()}
    seen = set()
    for name, text in given.items():
        if name is None:
            if not known:
                raise InputError(f"{label}: it takes no option")
            name = next(iter(known))
        if name in seen:
            raise InputError(f"{label}: {name} is given twice")
        seen.add(name)
        if name not in known:
            takes = nearest(name, list(known)) if known else "it takes none"
            raise InputError(f"{label}: no option is called {name!r}; {takes}")
        values[name] = _read(label, name, text, hints.get(name, str))
    return values


def _read(label: str, name: str, text: str, kind: type) -> Any:
    if kind is bool:
        choices = {"": True, "true": True, "false": False}
        if text.lower() in choices:
            return choices[text.lower()]
    else:
        try:
            return kind(text)
        except ValueError:
            pass
    wanted = {int: "a whole number", float: "a number", bool: "true or false"}.get(kind, "a text")
    raise InputError(f"{label}: {name} must be {wanted}, got {text!r}")
