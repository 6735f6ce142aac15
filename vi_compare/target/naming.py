"""Names of axes and of the entries along them, in ArviZ's terms: ``dims`` and ``coords``."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from vi_compare.errors import InputError, nearest
from vi_compare.estimate import Coordinates, labels
from vi_compare.values import check_text

Coordinate = tuple[str | int | float, ...]


class HasAxes(Protocol):
    """A site or a quantity, with the names that the model itself gives its axes."""

    @property
    def name(self) -> str: ...
    @property
    def shape(self) -> tuple[int, ...]: ...
    @property
    def dims(self) -> tuple[str, ...]: ...


@dataclass(frozen=True)
class Naming:
    """What a study calls axes, and the entries along them.

    Attributes:
        coords: {dimension: names of the entries along it}, texts or numbers.
        dims: {site or quantity: dimensions} of all its axes, or of those in no plate; None leaves
            an axis as it is.
    """

    coords: Mapping[str, Coordinate] = field(default_factory=dict)
    dims: Mapping[str, tuple[str | None, ...]] = field(default_factory=dict)

    @classmethod
    def of(cls, coords: Any, dims: Any) -> Naming:
        """From what somebody gave.

        Raises:
            InputError: where that is none, naming the dimension or the site.
        """
        _check_mapping(coords, "coords", "{dimension: names of its entries}")
        _check_mapping(dims, "dims", "{site: names of its axes}")
        return cls(
            {dim: _coordinate(dim, values) for dim, values in coords.items()},
            {site: _names(site, names) for site, names in dims.items()},
        )

    def dims_of(self, known: Sequence[HasAxes]) -> dict[str, tuple[str, ...]]:
        """{site or quantity: a name for every axis of its value}.

        Raises:
            InputError: when a name is of no site, or has no axis of its own.
        """
        by_name = {one.name: one.dims for one in known}
        for site, names in self.dims.items():
            if site not in by_name:
                raise InputError(
                    f"dims: there is no latent site or quantity {site!r}; "
                    f"{nearest(site, list(by_name))}"
                )
            by_name[site] = _renamed(site, by_name[site], names)
        return by_name

    def coords_of(
        self, known: Sequence[HasAxes], plates: Mapping[str, int]
    ) -> dict[str, Coordinates]:
        """{site or quantity: coordinates of its axes}, of those where an axis has some.

        Args:
            known: all sites and quantities.
            plates: {plate: its size}; data alone may stand in one.

        Raises:
            InputError: when coords are of no axis or of another length, or two entries would have
                one label.
        """
        dims = self.dims_of(known)
        sizes = _sizes(known, dims, plates)
        for dim, names in self.coords.items():
            if dim not in sizes:
                raise InputError(
                    f"coords: no axis is called {dim!r}; {nearest(dim, list(sizes))}, or give an "
                    f'axis that name: dims = {{"{known[0].name}": ["{dim}"]}}'
                )
            if len(names) != sizes[dim]:
                raise InputError(
                    f"coords: {dim!r} has {len(names)} names for {sizes[dim]} entries; give one "
                    f"for each"
                )
        found = {
            one.name: tuple(self.coords.get(dim) for dim in dims[one.name])
            for one in known
            if any(dim in self.coords for dim in dims[one.name])
        }
        _refuse_one_label_for_two(known, found)
        return found


def _check_mapping(given: Any, what: str, right: str) -> None:
    if not isinstance(given, Mapping):
        raise InputError(f"{what} is a {type(given).__name__}; it must be a dict {right}")
    for name in given:
        check_text(name, f"a name in {what}")


def _coordinate(dim: str, values: Any) -> Coordinate:
    """The names along a dimension, all texts or all numbers: a file keeps no mixture."""
    if isinstance(values, str | bytes | Mapping) or not isinstance(values, Iterable):
        raise InputError(f"coords: {dim!r} is {values!r:.60}; give a list with a name an entry")
    found = [_plain(value) for value in values]
    is_text = [isinstance(value, str) for value in found]
    for value, text in zip(found, is_text, strict=True):
        if text:
            check_text(value, f"coords: a name in {dim!r}")
        if (text and len(value.splitlines()) > 1) or not (text or _is_number(value)):
            raise InputError(
                f"coords: {dim!r} holds {value!r:.60}; give texts of one line, or finite numbers"
            )
    if len(set(is_text)) > 1:
        raise InputError(f"coords: {dim!r} holds texts and numbers; give the one or the other")
    if any(isinstance(value, float) for value in found):
        found = [float(value) for value in found]
    seen: set[Any] = set()
    for value in found:
        if value in seen:
            raise InputError(
                f"coords: {dim!r} has {value!r:.60} twice; give every entry a name of its own"
            )
        seen.add(value)
    return tuple(found)


def _plain(value: Any) -> Any:
    """Python's own text or number of a NumPy or JAX one."""
    try:
        return value.item() if hasattr(value, "item") else value
    except (TypeError, ValueError):  # an array of several
        return value


def _is_number(value: Any) -> bool:
    """Whether it is a finite real number of at most 64 bits."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return abs(value) < 2**63 if isinstance(value, int) else math.isfinite(value)


def _names(site: str, given: Any) -> tuple[str | None, ...]:
    names = (given,) if isinstance(given, str) else given
    if not isinstance(names, Sequence) or isinstance(names, bytes):
        raise InputError(
            f'dims: {site!r} has {given!r:.60}; give names of its axes, as in ["feature"]'
        )
    for name in names:
        if name is not None:
            check_text(name, f"dims: a name for an axis of {site!r}")
    return tuple(names)


def _renamed(site: str, own: tuple[str, ...], names: tuple[str | None, ...]) -> tuple[str, ...]:
    """The axes of a site with names for all of them, or for those that stand in no plate."""
    loose = [i for i, dim in enumerate(own) if dim == f"{site}_dim_{i}"]
    if len(names) not in (len(own), len(loose)):
        axes = f"{len(own)} ax{'i' if len(own) == 1 else 'e'}s"
        raise InputError(
            f"dims: {site!r} has {axes} ({', '.join(own) or 'it is one number'}) and "
            f"{len(names)} names; give one for each"
        )
    out = list(own)
    for i, name in zip(range(len(own)) if len(names) == len(own) else loose, names, strict=True):
        out[i] = name or out[i]
    if twice := {dim for dim in out if out.count(dim) > 1}:
        raise InputError(
            f"dims: two axes of {site!r} are called {min(twice)!r}; give one of them another "
            f"name, with coords of its own"
        )
    return tuple(out)


def _sizes(
    known: Sequence[HasAxes], dims: Mapping[str, tuple[str, ...]], plates: Mapping[str, int]
) -> dict[str, int]:
    """{dimension: its length}.

    Raises:
        InputError: when axes of different lengths have one name.
    """
    sizes = dict(plates)
    for one in known:
        for dim, n in zip(dims[one.name], one.shape, strict=True):
            if sizes.setdefault(dim, n) != n:
                raise InputError(
                    f"dims: an axis of {one.name!r} has {n} entries and is called {dim!r}, as one "
                    f"of {sizes[dim]} is; give it another name"
                )
    return sizes


def _refuse_one_label_for_two(known: Sequence[HasAxes], coords: Mapping[str, Coordinates]) -> None:
    """As of ["a", "a, b"] by ["b, c", "c"]."""
    for one in (one for one in known if one.name in coords):
        own = labels(one.name, one.shape, coords[one.name])
        if len(set(own)) < len(own):
            twice = next(label for label in own if own.count(label) > 1)
            raise InputError(
                f"coords: two entries of {one.name!r} would be called {twice!r:.80}; leave out "
                f"commas in the names"
            )
