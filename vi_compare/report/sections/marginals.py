"""Margin by margin: where each fit stands, and how wide it is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from vi_compare import formatting
from vi_compare.report.blocks import (
    Cell,
    Column,
    Picture,
    Pictures,
    Row,
    Section,
    Table,
    measured,
    name_of,
)
from vi_compare.report.figures.forest import intervals
from vi_compare.report.pairs import worst_first
from vi_compare.report.view import FitView, View, shown

# ArviZ's table of every fit, after that of the target (None) where there is one.
Summaries = list[tuple[FitView | None, Any]]


def section(view: View, first: int = 6, most: int = 300) -> Section | None:
    """The `first` margins at once, then, folded, rows up to `most` in all: more would swell the
    page and are in fits.nc."""
    fits = [f for f in view.fits if f.margins]
    labels = worst_first(fits, view.labels)
    if not labels:
        return None
    listed = labels[: max(first, most // (len(fits) + 1))]
    # ArviZ's own table, once for each source and not once for each margin.
    summaries: Summaries = [(fit, _summary(fit.margins, listed)) for fit in fits]
    if view.reference:
        summaries.insert(0, (None, _summary(view.reference, listed)))
    blocks: list = [_forest(view, labels[:first]), _table(labels[:first], summaries)]
    if rest := listed[first:]:
        of = f" (of {len(labels) - first})" if len(labels) > len(listed) else ""
        blocks.append(_table(rest, summaries, f"{len(rest)} more margins{of}"))
    lead = "Each margin for itself, in the model's own space." + (
        f" The worst {formatting.words(first)} come first."
        if len(labels) > first and view.reference
        else ""
    )
    return Section("marginals", "Marginals", lead, blocks, order=90)


def _forest(view: View, labels: Sequence[str]) -> Pictures:
    fits, reference = view.drawn, view.reference
    sources = [*([reference] if reference else []), *(f.margins for f in fits)]
    n = min(len(next(iter(source.values()))) for source in sources)
    standard = bool(reference) and len(labels) > 1
    place = {label: _scale(reference[label]) if standard else (0.0, 1.0) for label in labels}
    placed = lambda source: {
        label: (source[label][:n] - place[label][0]) / place[label][1] for label in labels
    }
    draws = {f.css: placed(f.margins) for f in fits}
    axis = (
        "distance from the target's mean, in its sd"
        if standard
        else shown(labels[0])
        if len(labels) == 1
        else "value"
    )
    how = "Dot: mean. Thick: 50 % interval, thin: 90 %. " + (
        "The topmost is the target: a fit should lie under it, and be as long." if reference else ""
    )
    picture = intervals(draws, placed(reference) if reference else None, fits, labels, axis)
    return Pictures([Picture(picture)], how.strip(), fits)


def _scale(x: np.ndarray) -> tuple[float, float]:
    sd = float(x.std())
    return float(x.mean()), sd if sd > 0 else 1.0


def _summary(margins: dict[str, np.ndarray], labels: Sequence[str]):
    """ArviZ's table: mean, sd and 90 % interval (rows as in `labels`)."""
    import arviz_base as azb
    import arviz_stats as azs

    tree = azb.from_dict(
        {"posterior": {f"m{i}": margins[label][None] for i, label in enumerate(labels)}}
    )
    table = azs.summary(tree, kind="stats", ci_prob=0.9, ci_kind="eti", round_to="none")
    return table.set_axis(list(labels), axis=0)


def _table(labels: Sequence[str], summaries: Summaries, folded: str = "") -> Table:
    columns = [
        Column.words("Margin"),
        Column.words("Of"),
        Column("Mean"),
        Column("sd"),
        Column("5 %"),
        Column("95 %"),
        Column("Mean error", "÷ sd"),
        Column("sd ratio"),
    ]
    rows = [row for label in labels for row in _rows(label, summaries)]
    if folded:
        return Table(columns, rows, folded=folded)
    caption = 'From arviz_stats.summary(kind="stats", ci_prob=0.9); ± is one standard error.'
    return Table(columns, rows, "marginals", "Means, widths and quantiles", caption)


def _rows(label: str, summaries: Summaries) -> list[Row]:
    """The target's row and every fit's, all to the same decimal place."""
    sd = float(summaries[0][1].loc[label]["sd"])
    rows = []
    for fit, summary in summaries:
        name = name_of(fit) if fit else Cell("Target")
        errors = (
            [measured(fit.reading(m, label), marked=True) for m in ("mean_shift", "sd_ratio")]
            if fit
            else [Cell(""), Cell("")]
        )
        cells = [Cell(shown(label)), name, *_statistics(summary, label, sd), *errors]
        rows.append(Row(cells, fit))
    return rows


def _statistics(summary, label: str, sd: float) -> list[Cell]:
    values = [float(summary.loc[label][c]) for c in ("mean", "sd", "eti90_lb", "eti90_ub")]
    # To a hundredth of the sd: a mean of 0.00135 beside an sd of 1.6 is 0.00.
    easy = 1e-4 < sd < 1e6
    text = (
        (lambda v: formatting.fixed(v, formatting.decimals(sd / 100))) if easy else formatting.plain
    )
    return [Cell(text(v), value=v) for v in values]
