"""The page, section by section. Place is registration: a module here with an ``ORDER``
(its place on the page) and ``section(view) -> Section | None`` is a section, and no list names it.
Other distributions add theirs by entry points (`vi_compare.catalogue`).
"""

from __future__ import annotations

from types import ModuleType

from vi_compare import catalogue
from vi_compare.report.blocks import Section
from vi_compare.report.view import View
from vi_compare.timing import timed


def modules() -> list[ModuleType]:
    """The sections of this package and of others, in the order of the page."""
    found = catalogue.load_all("sections").values()
    return sorted(found, key=lambda module: module.ORDER)


def all_of(view: View) -> list[Section]:
    """The sections that this comparison has something to say in."""
    made = []
    for module in modules():
        with timed(module.__name__.rpartition(".")[2]):
            made.append(module.section(view))
    return [section for section in made if section is not None]
