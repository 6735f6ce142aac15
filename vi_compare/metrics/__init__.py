"""What is measured: one idea a file.

A file exports ``ABOUT``, which says what its numbers mean, and
``measure(evidence) -> {label: Estimate}``.
"""

from vi_compare import catalogue
from vi_compare.estimate import About


def abouts() -> dict[str, About]:
    """{metric: what its numbers mean} of every metric there is, as in ``results.json``."""
    found = catalogue.load_all("metrics")
    return {name.replace("-", "_"): module.ABOUT for name, module in found.items()}
