"""The page, section by section. Place is registration: a module here is one function
``section(view) -> Section | None``; the `Section` says where on the page it stands.
"""

from __future__ import annotations

import importlib
import pkgutil
from types import ModuleType

from vi_compare.report.blocks import Section
from vi_compare.report.view import View
from vi_compare.timing import timed


def modules() -> list[ModuleType]:
    """The modules of this folder, by name."""
    names = sorted(m.name for m in pkgutil.iter_modules(__path__))
    return [importlib.import_module(f"{__name__}.{name}") for name in names]


def all_of(view: View) -> list[Section]:
    """The sections that this comparison has something to say in, in the order of the page."""
    made = []
    for module in modules():
        with timed(module.__name__.rpartition(".")[2]):
            made.append(module.section(view))
    return sorted((section for section in made if section), key=lambda section: section.order)
