"""Which margins a page shows first, and which two of them tell the most seen together."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import numpy as np
from scipy.stats import rankdata

from vi_compare.report.view import FitView

# All pairs of the worst margins are tried, with so many draws on a grid of so many cells.
TRIED, DRAWS, CELLS = 12, 4000, 8
# Beyond this many margins correlations are not formed.
MOST_MARGINS = 200


def worst_first(fits: Sequence[FitView], labels: Sequence[str]) -> list[str]:
    """The same labels, those where some fit is furthest off first."""
    return sorted(labels, key=lambda label: -badness(fits, label))


def badness(fits: Sequence[FitView], label: str) -> float:
    """How far off the worst fit is here: in mean ÷ sd, and in sd on a log scale."""
    off = [0.0]
    for fit in fits:
        shift, ratio = fit.reading("mean_shift", label).value, fit.reading("sd_ratio", label).value
        off += [abs(shift)] if shift is not None else []
        off += [abs(float(np.log(max(ratio, 1e-3))))] if ratio is not None else []
    return max(off)


def most_telling(
    p: dict[str, np.ndarray], fits: Sequence[FitView], most: int
) -> list[tuple[str, str]]:
    """At most so many pairs of margins, the one where some fit is furthest off first.

    Off is the share of draws that lie in the wrong cell of a grid at the target's
    quantiles: it sees a lost correlation, a lost mode and a wrong width alike.
    """
    labels = [label for label in p if p[label].std() > 0]
    tried = set(combinations(worst_first(fits, labels)[:TRIED], 2)) | set(uncoupled(p, fits))
    places = {label: i for i, label in enumerate(p)}
    ordered = sorted({(a, b) if places[a] < places[b] else (b, a) for a, b in tried})
    worst = {pair: max((_off(p, f.margins, *pair) for f in fits), default=0.0) for pair in ordered}
    return sorted(ordered, key=lambda pair: -worst[pair])[:most]


def uncoupled(p: dict[str, np.ndarray], fits: Sequence[FitView]) -> list[tuple[str, str]]:
    """For every fit the pair whose rank correlation is furthest off; the worst first."""
    labels = [label for label in p if p[label].std() > 0]
    if not 2 <= len(labels) <= MOST_MARGINS:
        return []
    found: dict[tuple[str, str], float] = {}
    truth = _correlations(p, labels)
    for fit in fits:
        off = np.triu(abs(_correlations(fit.margins, labels) - truth), 1)
        i, j = np.unravel_index(np.argmax(off), off.shape)
        pair = labels[i], labels[j]
        found[pair] = max(found.get(pair, 0.0), off[i, j])
    return sorted(found, key=lambda pair: -found[pair])


def _correlations(margins: dict[str, np.ndarray], labels: Sequence[str]) -> np.ndarray:
    x = np.array([rankdata(margins[label][:DRAWS]) for label in labels])
    x = x - x.mean(axis=1, keepdims=True)
    length = np.sqrt((x**2).sum(axis=1, keepdims=True))
    x = x / np.where(length > 0, length, 1.0)
    return x @ x.T


def _off(p: dict[str, np.ndarray], q: dict[str, np.ndarray], a: str, b: str) -> float:
    edges = [np.quantile(p[k][:DRAWS], np.linspace(0, 1, CELLS + 1)[1:-1]) for k in (a, b)]
    share = lambda x: np.bincount(_cell(x, a, b, edges), minlength=CELLS**2) / len(x[a][:DRAWS])
    return 0.5 * float(np.abs(share(p) - share(q)).sum())


def _cell(x: dict[str, np.ndarray], a: str, b: str, edges) -> np.ndarray:
    rows, columns = (np.searchsorted(e, x[k][:DRAWS]) for k, e in zip((a, b), edges, strict=True))
    return CELLS * rows + columns
