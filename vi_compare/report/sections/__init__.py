"""The page, section by section: each module's ``section(view) -> Section | None``."""

from __future__ import annotations

from vi_compare.report.blocks import Section
from vi_compare.report.sections import (
    cost,
    densities,
    marginals,
    mode_coverage,
    optimisation,
    penalty,
    published,
    reproduce,
    scoreboard,
    weights,
)
from vi_compare.report.view import View

# In the order of the page.
MODULES = (
    scoreboard,
    densities,
    penalty,
    mode_coverage,
    optimisation,
    weights,
    marginals,
    cost,
    published,
    reproduce,
)


def all_of(view: View) -> list[Section]:
    """The sections that this comparison has something to say in."""
    made = (module.section(view) for module in MODULES)
    return [section for section in made if section is not None]
