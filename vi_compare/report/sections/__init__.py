"""The page, section by section. Place is registration: a module here is one function
``section(view) -> Section | None``; the `Section` says where on the page it stands. Other
distributions add theirs by entry points (`vi_compare.catalogue`).
"""

from __future__ import annotations

import warnings

from vi_compare import catalogue
from vi_compare.errors import InputError
from vi_compare.report.blocks import Note, Section
from vi_compare.report.view import View
from vi_compare.timing import timed


def all_of(view: View) -> list[Section]:
    """The sections that this comparison has something to say in, in the order of the page. One
    that breaks says so in its place, and spoils no others."""
    made: dict[str, Section] = {}
    for name, entry in catalogue.entries("sections").items():
        with timed(name):
            try:
                section = _section(entry, view, made)
            except InputError:
                raise
            except Exception as error:  # whatever somebody's section raises
                why = entry.broke(error)
                warnings.warn(why, stacklevel=2)
                section = Section(f"broken-{name}", name, blocks=[Note(why)])
        if section:
            made[section.key] = section
    return sorted(made.values(), key=lambda section: section.order)


def _section(entry: catalogue.Registered, view: View, others: dict[str, Section]) -> Section | None:
    section = entry.load().section(view)
    if not isinstance(section, Section | None):
        raise TypeError(f"section returned a {type(section).__name__}, and no Section")
    if section and section.key in others:
        raise ValueError(f"the key {section.key!r} is that of another section")
    return section
