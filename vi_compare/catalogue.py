"""Place is registration: a file in ``guides/``, ``divergences/``, ``solvers/``, ``metrics/``
or ``report/sections/`` is an entry, its name (underscores as hyphens) is the name on the
command line, and the first line of what it builds is the line that ``vi-compare list`` shows.
A leading underscore means a helper, not an entry.

Another distribution offers such modules by entry points of the groups ``vi_compare.guides``,
``vi_compare.divergences``, ``vi_compare.solvers``, ``vi_compare.metrics`` and
``vi_compare.sections``. In its pyproject.toml::

    [project.entry-points."vi_compare.guides"]
    my-flow = "my_package.flow"  # a module that defines build(model, ...)

This package's own entry wins where both have one name, with a warning; of a name that two
other distributions offer none wins, and whoever asks for it is told.
"""

from __future__ import annotations

import importlib
import inspect
import math
import pkgutil
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, Literal, get_args, get_origin, get_type_hints

from vi_compare.errors import InputError, last_line, nearest, told

if TYPE_CHECKING:
    from importlib import metadata

# Kinds that have a name on the command line or a number in the results.
KINDS = ("guides", "divergences", "solvers", "metrics")
# What the module of an entry defines.
DEFINES = {
    "guides": ("build",),
    "divergences": ("build",),
    "solvers": ("suits", "build"),
    "metrics": ("ABOUT", "measure"),
    "sections": ("section",),
}
# What `build` is given before its options.
GIVEN = {"guides": ("model",), "divergences": ("reference",), "solvers": ()}


@dataclass(frozen=True)
class Registered:
    """A module that is a guide, a divergence, a solver, a metric or a section of the page.

    Attributes:
        kind: "guides", "divergences", "solvers", "metrics" or "sections".
        name: on the command line.
        module: its dotted name; imported by `load`.
        distribution: name and version of the distribution that offers it; "" for this
            package's own.
        rivals: other distributions that offer the same name.
    """

    kind: str
    name: str
    module: str
    distribution: str = ""
    rivals: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"the {self.kind.removesuffix('s')} {self.name!r}"

    @property
    def place(self) -> str:
        """What it is and where it stands."""
        if self.distribution:
            return f"{self} of {self.distribution} (entry point {self.module})"
        return f"{self} ({self.module.replace('.', '/')}.py)"

    def load(self) -> ModuleType:
        """The module, imported.

        Raises:
            InputError: for a module that cannot be imported or is not what an entry of its kind
                has to be, and for one of another distribution that shares its name with that
                of a third.
        """
        rivals = " and ".join(self.rivals)
        if not self.distribution:
            if rivals:
                warnings.warn(
                    f"{self} of {rivals} is left out: vi-compare has one of that name; the "
                    f"entry point needs another name",
                    stacklevel=3,
                )
        elif rivals:
            raise InputError(
                f"{self} is offered by {self.distribution} and by {rivals}; uninstall all but one"
            )
        return _loaded(self)

    def broke(self, error: Exception) -> str:
        """What its own code raised, in one line, with the line of its file."""
        file = getattr(sys.modules.get(self.module), "__file__", None)
        where = last_line(error, file) if file else ""
        return f"{self.place} broke: {told(error)}{f' ({where})' if where else ''}"


@cache
def _loaded(entry: Registered) -> ModuleType:
    """The module of an entry, found to be what its kind has to be."""
    try:
        module = importlib.import_module(entry.module)
    except Exception as error:  # whatever somebody's module raises
        raise InputError(
            f"{entry.place} cannot be imported: {told(error)}; mend it or take it away"
        ) from error
    if fault := "; ".join(_faults(entry.kind, module)):
        raise InputError(f"{entry.place} {fault}")
    return module


def _faults(kind: str, module: ModuleType) -> Iterator[str]:
    """What the module lacks to be an entry of its kind, a clause each."""
    lacking = [name for name in DEFINES[kind] if name not in vars(module)]
    if lacking:
        yield f"defines no {' and no '.join(lacking)}"
    elif kind == "metrics":
        from vi_compare.estimate import About  # it needs NumPy, which `--help` does not wait for

        if not isinstance(module.ABOUT, About):
            yield f"has an ABOUT of type {type(module.ABOUT).__name__}, which has to be an About"
    elif kind in GIVEN:
        yield from _faults_of_build(module.build, GIVEN[kind])


def _faults_of_build(build: Callable, given: tuple[str, ...]) -> Iterator[str]:
    parameters = list(inspect.signature(build).parameters.values())
    for name, parameter in zip(given, [*parameters, None], strict=False):
        if parameter is None or parameter.default is not parameter.empty:
            yield f"has a build that does not take the {name} first"
            return
    for parameter in parameters[len(given) :]:
        starred = parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
        if parameter.default is parameter.empty and not starred:
            yield f"has a build whose option {parameter.name!r} has no default; give it one"


@cache
def entries(kind: str) -> Mapping[str, Registered]:
    """{name: Registered} of one kind, in the order of the names; no entry is imported."""
    place = "report.sections" if kind == "sections" else kind
    folder = Path(__file__).parent.joinpath(*place.split("."))
    own = (m.name for m in pkgutil.iter_modules([str(folder)]) if not m.name.startswith("_"))
    found = {_hyphened(file): f"vi_compare.{place}.{file}" for file in own}
    out = {name: Registered(kind, name, module) for name, module in found.items()}
    for point in _entry_points().select(group=f"vi_compare.{kind}"):
        name, origin = _hyphened(point.name), _origin(point)
        if known := out.get(name):
            out[name] = replace(known, rivals=(*known.rivals, origin))
        else:
            out[name] = Registered(kind, name, point.value, origin)
    return dict(sorted(out.items()))


@cache
def _entry_points() -> metadata.EntryPoints:
    """Those of all that is installed, read once: a file of every distribution."""
    from importlib import metadata  # `--help` reads none and need not wait for it

    return metadata.entry_points()


def _hyphened(name: str) -> str:
    return name.replace("_", "-")


def _origin(point: metadata.EntryPoint) -> str:
    return f"{point.dist.name} {point.dist.version}" if point.dist else "an unnamed distribution"


def look_again() -> None:
    """Forget what is installed, after something was installed in the same process."""
    _entry_points.cache_clear()
    entries.cache_clear()
    _loaded.cache_clear()


def import_plug_ins(kinds: Iterable[str]) -> None:
    """Import what other distributions offer of these kinds.

    Raises:
        InputError: see `Registered.load`.
    """
    for kind in kinds:
        for entry in entries(kind).values():
            if entry.distribution:
                entry.load()


def names(kind: str) -> tuple[str, ...]:
    """Names of all entries of one kind; no entry is imported."""
    return tuple(entries(kind))


def load(kind: str, name: str, others: tuple[str, ...] = ()) -> ModuleType:
    """The module of one entry.

    Raises:
        InputError: when there is none of that name; it lists the nearest, of the
            catalogue and of `others`, names from elsewhere that would have done. And see
            `Registered.load`.
    """
    known = entries(kind)
    if name not in known:
        singular = kind.removesuffix("s")
        raise InputError(f"no {singular} is called {name!r}; {nearest(name, [*known, *others])}")
    return known[name].load()


def load_all(kind: str) -> dict[str, ModuleType]:
    """{name: module} of all entries of one kind, imported."""
    return {name: entry.load() for name, entry in entries(kind).items()}


def summary(documented: Callable | ModuleType) -> str:
    """First line of a docstring."""
    return (inspect.getdoc(documented) or "").partition("\n")[0]


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


def _read(label: str, name: str, text: str, kind: Any) -> Any:
    words = [word for one in get_args(kind) if get_origin(one) is Literal for word in get_args(one)]
    if words:
        (kind,) = (one for one in get_args(kind) if get_origin(one) is not Literal)
    if text in words:
        return text
    if kind is bool:
        choices = {"": True, "true": True, "false": False}
        if text.lower() in choices:
            return choices[text.lower()]
    else:
        try:
            value = kind(text)
        except ValueError:
            pass
        else:
            if kind is int and abs(value) >= 2**31:
                raise InputError(f"{label}: {name} must be below 2³¹, got {text}")
            if kind is float and not math.isfinite(value):
                raise InputError(f"{label}: {name} must be finite, got {text}")
            return value
    wanted = {int: "a whole number", float: "a number", bool: "true or false"}.get(kind, "a text")
    wanted = " or ".join([wanted, *words])
    raise InputError(f"{label}: {name} must be {wanted}, got {text!r}")
