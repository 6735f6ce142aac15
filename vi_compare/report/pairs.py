"""Which margins a page shows first, and which two of them tell the most seen together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from scipy.stats import rankdata

from vi_compare.report.view import FitView


@dataclass(frozen=True)
class PairEffort:
    """What the search for telling pairs may cost.

    Attributes:
        worst: all pairs of this many margins are tried, those that are furthest off.
        draws: of each side; of the first of them shares and correlations are formed.
        cells: of the grid, along each margin.
        most_margins: beyond, correlations of all pairs are not formed.
    """

    worst: int = 12
    draws: int = 4000
    cells: int = 8
    most_margins: int = 200


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
    p: dict[str, np.ndarray], fits: Sequence[FitView], most: int, effort: PairEffort = PairEffort()
) -> list[tuple[str, str]]:
    """At most `most` pairs of margins, the one where some fit is furthest off first.

    Off is the share of draws that lie in the wrong cell of a grid at the target's
    quantiles: it sees a lost correlation, a lost mode and a wrong width alike.
    """
    labels = list(p)
    tried = set(combinations(worst_first(fits, labels)[: effort.worst], 2))
    tried |= set(uncoupled(p, fits, effort))
    places = {label: i for i, label in enumerate(p)}
    ordered = sorted({(a, b) if places[a] < places[b] else (b, a) for a, b in tried})
    off = lambda pair: max((_off(p, f.margins, pair, effort) for f in fits), default=0.0)
    worst = {pair: off(pair) for pair in ordered}
    return sorted(ordered, key=lambda pair: -worst[pair])[:most]


def uncoupled(
    p: dict[str, np.ndarray], fits: Sequence[FitView], effort: PairEffort = PairEffort()
) -> list[tuple[str, str]]:
    """For every fit the pair whose rank correlation is furthest off; the worst first."""
    labels = list(p)
    if not 2 <= len(labels) <= effort.most_margins:
        return []
    found: dict[tuple[str, str], float] = {}
    truth = _correlations(p, labels, effort.draws)
    for fit in fits:
        off = np.triu(abs(_correlations(fit.margins, labels, effort.draws) - truth), 1)
        i, j = np.unravel_index(np.argmax(off), off.shape)
        pair = labels[i], labels[j]
        found[pair] = max(found.get(pair, 0.0), off[i, j])
    return sorted(found, key=lambda pair: -found[pair])


def _correlations(margins: dict[str, np.ndarray], labels: Sequence[str], n: int) -> np.ndarray:
    """Spearman's rank correlations of the first `n` draws, one row and column a label."""
    x = np.array([rankdata(margins[label][:n]) for label in labels])
    x = x - x.mean(axis=1, keepdims=True)
    length = np.sqrt((x**2).sum(axis=1, keepdims=True))
    x = x / np.where(length > 0, length, 1.0)
    return x @ x.T


def _off(
    p: dict[str, np.ndarray], q: dict[str, np.ndarray], pair: tuple[str, str], effort: PairEffort
) -> float:
    """Share of the draws that lie in the wrong cell of a grid at the target's quantiles."""
    cells, first = effort.cells, slice(effort.draws)
    inner = np.linspace(0, 1, cells + 1)[1:-1]
    edges = {k: np.quantile(p[k][first], inner) for k in pair}

    def shares(x: dict[str, np.ndarray]) -> np.ndarray:
        rows, columns = (np.searchsorted(edges[k], x[k][first]) for k in pair)
        return np.bincount(cells * rows + columns, minlength=cells**2) / len(rows)

    return 0.5 * float(np.abs(shares(p) - shares(q)).sum())
