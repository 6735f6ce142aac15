"""Labels: ``GUIDE/DIVERGENCE[/SOLVER]``, each with options, as text and back."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from vi_compare import catalogue
from vi_compare.divergences import Divergence
from vi_compare.errors import InputError
from vi_compare.solvers import Solver

# What `build` of each kind returns.
BUILT: dict[str, type] = {"guides": Callable, "divergences": Divergence, "solvers": Solver}  # type: ignore[dict-item]
# Guides of a script, {name: an AutoGuide or a function}, beside those of the catalogue.
Guides = Mapping[str, Callable]
NO_GUIDES: Guides = MappingProxyType({})


@dataclass(frozen=True)
class Part:
    """One part of a label, checked against the catalogue and the script's own guides.

    Attributes:
        kind: "guides", "divergences" or "solvers".
        name: of the entry.
        options: every option of the entry with its value, in the entry's order.
        text: as short as it can be written: the first option by value, defaults left out.
        own: the guide itself, where it is one of the script's.
    """

    kind: str
    name: str
    options: tuple[tuple[str, Any], ...]
    text: str
    own: Callable | None = field(default=None, compare=False, repr=False)

    @property
    def full(self) -> str:
        """With every option by name: what the random numbers derive from."""
        return f"{self.name}({','.join(f'{k}={v}' for k, v in self.options)})"

    def build(self, *given: Any) -> Any:
        """The guide, divergence or solver itself; `given` is what ``build`` takes first: the
        model for a guide, the reference for a divergence, nothing for a solver.

        Raises:
            InputError: where an option has a value that the entry refuses by a ValueError;
                its message stands behind the entry's name. And where the entry breaks, or builds
                something else.
        """
        if self.own is not None:
            return self.own
        entry = catalogue.entries(self.kind)[self.name]
        build = entry.load().build
        try:
            built = build(*given, **dict(self.options))
        except InputError:
            raise
        except ValueError as error:
            raise InputError(f"{self.name}: {error}") from error
        except Exception as error:  # whatever somebody's plug-in raises
            raise InputError(entry.broke(error)) from error
        if not isinstance(built, BUILT[self.kind]):
            raise InputError(f"{entry.place} builds a {type(built).__name__}, which is none")
        return built


def check_guides(guides: Guides) -> None:
    """Refuse guides of a script that no label could name, or that are no guides.

    Raises:
        InputError: with the name and the remedy.
    """
    if not isinstance(guides, Mapping):
        raise InputError(
            f"guides is a {type(guides).__name__}; it must be a dict {{name: guide function}}"
        )
    separators = "/:,="
    for name, guide in guides.items():
        if not isinstance(name, str) or not name.strip() or name != name.strip():
            raise InputError(f"guides: {name!r} cannot be a name; give a word")
        if set(separators) & set(name):
            raise InputError(
                f"guides: the name {name!r} must not contain any of {' '.join(separators)}"
            )
        if name in catalogue.names("guides"):
            raise InputError(
                f"guides: {name!r} is a guide of the catalogue; give yours another name"
            )
        if not callable(guide) or isinstance(guide, type):
            what = "class" if isinstance(guide, type) else type(guide).__name__
            raise InputError(
                f"guides: {name!r} is a {what}; give a guide function, or an AutoGuide made "
                f"of the model"
            )


def own_part(name: str, guide: Callable) -> Part:
    """A guide that somebody wrote, or an AutoGuide, by this name."""
    check_guides({_plainly(name): guide})
    return Part("guides", _plainly(name), (), _plainly(name), guide)


def _plainly(name: str) -> str:
    """A name without the signs that labels are put together with."""
    return re.sub(r"[/:,=]+", " ", name).strip() or "guide"


def parse_part(kind: str, text: str, guides: Guides = NO_GUIDES) -> Part:
    """``mixture:2`` or ``mixture:components=2`` -> Part; `guides` are the script's own.

    Raises:
        InputError: for an unknown name, an unknown option, or a value of the wrong type.
    """
    name, _, rest = text.strip().partition(":")
    own = guides if kind == "guides" else NO_GUIDES
    if name in own:
        if rest:
            raise InputError(f"{text}: {name} is written in the script and takes no option")
        return Part(kind, name, (), name, own[name])
    build = catalogue.load(kind, name, tuple(own)).build
    given: dict[str | None, str] = {}
    for item in filter(None, (piece.strip() for piece in rest.split(","))):
        option, equals, value = (piece.strip() for piece in item.partition("="))
        bare = not equals
        flag = bare and option in catalogue.options(build)
        key, value = (option, "true") if flag else (None, option) if bare else (option, value)
        if key in given:
            raise InputError(f"{text}: {key or 'the first option'} is given twice")
        given[key] = value
    values = catalogue.resolve(build, text, given)
    return Part(kind, name, tuple(values.items()), _short(kind, name, values, build))


def _short(kind: str, name: str, values: dict[str, Any], build) -> str:
    defaults = {k: p.default for k, p in catalogue.options(build).items()}
    shown = {k: v for k, v in values.items() if v != defaults[k]}
    first = next(iter(values), "")
    # The first option of a guide or a divergence (components, rank, alpha) is part of what it
    # is, unless it says how much work is done.
    named = kind in ("guides", "divergences") and first != "particles"
    if named and (_is_number(values.get(first)) or _is_number(defaults.get(first))):
        shown = {first: values[first]} | shown
        if len(shown) == 1:
            return f"{name}:{_plain(values[first])}"
    options = ",".join(k if v is True else f"{k}={v}" for k, v in shown.items())
    return f"{name}:{options}" if options else name


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float)


def _plain(value: float | str) -> str:
    """A number in full where it is whole: two fits must not share a name."""
    return f"{value:g}" if isinstance(value, float) else str(value)


@dataclass(frozen=True)
class FitLabel:
    """What to fit.

    Attributes:
        guide, divergence: as given.
        solver: as given, or None for the default of the pair.
        called: what the comparison calls the fit; "" for the label itself.
    """

    guide: Part
    divergence: Part
    solver: Part | None = None
    called: str = ""

    @property
    def name(self) -> str:
        if self.called:
            return self.called
        return "/".join(p.text for p in (self.guide, self.divergence, self.solver) if p)


def parse_label(text: str, guides: Guides = NO_GUIDES) -> FitLabel:
    """``mixture:2/reverse-kl`` or ``mvn/forward-kl/svi:steps=500`` -> FitLabel.

    `guides` are the script's own, {name: guide}.

    Raises:
        InputError: as `parse_part`, and for anything but two or three parts.
    """
    pieces = text.split("/")
    if len(pieces) not in (2, 3) or not all(piece.strip() for piece in pieces):
        raise InputError(
            f"cannot read the fit {text!r}; write GUIDE/DIVERGENCE or "
            f"GUIDE/DIVERGENCE/SOLVER, e.g. mixture:2/reverse-kl"
        )
    guide = parse_part("guides", pieces[0], guides)
    divergence = parse_part("divergences", pieces[1])
    solver = parse_part("solvers", pieces[2]) if len(pieces) == 3 else None
    return FitLabel(guide, divergence, solver)
