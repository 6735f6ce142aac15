"""The page, section by section. Place is registration: a module here is one function
``section(view) -> Section | None``; the `Section` says where on the page it stands. Other
distributions add theirs by entry points (`vi_compare.catalogue`).
"""

from __future__ import annotations

from types import ModuleType

from vi_compare import catalogue
from vi_compare.report.blocks import Section
from vi_compare.report.view import View
from vi_compare.timing import timed


def modules() -> list[ModuleType]:
    """The sections of this package and of others, by name."""
    return list(catalogue.load_all("sections").values())


def all_of(view: View) -> list[Section]:
    """The sections that this comparison has something to say in, in the order of the page."""
    made = []
    for module in modules():
        with timed(module.__name__.rpartition(".")[2]):
            made.append(module.section(view))
    return sorted((section for section in made if section), key=lambda section: section.order)
