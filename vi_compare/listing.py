"""Which margins are listed one by one: results of many parameters must stay small."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from vi_compare.estimate import ALL, Estimate

LISTED = 5


def worst_few(
    values: Mapping[str, float],
    badness: Callable[[float], float],
    estimate: Callable[[str], Estimate],
) -> dict[str, Estimate]:
    """The worst as the headline, and the worst few by name.

    Args:
        values: {label: value}, not empty.
        badness: of a value; the larger, the worse.
        estimate: of a label, with its error; asked for those that are listed alone.
    """
    ranked = sorted(values, key=lambda label: -badness(values[label]))
    by = {label: estimate(label) for label in ranked[:LISTED]}
    return {ALL: replace(by[ranked[0]], worst_of=len(values)), **by}
