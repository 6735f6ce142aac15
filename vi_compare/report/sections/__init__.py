"""The page, section by section. Place is registration: a module here with an ``ORDER``
(its place on the page) and ``section(view) -> Section | None`` is a section, and no list names it.
"""

from __future__ import annotations

import importlib
import pkgutil
from types import ModuleType

from vi_compare.report.blocks import Section
from vi_compare.report.view import View
from vi_compare.timing import timed


def modules() -> list[ModuleType]:
    """The modules of this folder in the order of the page."""
    names = sorted(m.name for m in pkgutil.iter_modules(__path__))
    found = [importlib.import_module(f"{__name__}.{name}") for name in names]
    return sorted(found, key=lambda module: module.ORDER)


def all_of(view: View) -> list[Section]:
    """The sections that this comparison has something to say in."""
    made = []
    for module in modules():
        with timed(module.__name__.rpartition(".")[2]):
            made.append(module.section(view))
    return [section for section in made if section is not None]
