"""Margin by margin: where each fit stands, and how wide it is."""

from __future__ import annotations

from collections.abc import Sequence

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
from vi_compare.report.figures.forest import TARGET_NAME, intervals
from vi_compare.report.pairs import worst_first
from vi_compare.report.view import LONGEST, View, short

ORDER = 90

# Shown at once; then folded; more rows would swell the page and are in fits.nc.
FIRST, MOST_ROWS = 6, 300
LOWER, UPPER = "eti90_lb", "eti90_ub"


def section(view: View) -> Section | None:
    fits = [f for f in view.fits if f.margins]
    labels = list(view.reference or (fits[0].margins if fits else {}))
    if not labels:
        return None
    labels = worst_first(fits, labels)
    blocks: list = [_forest(view, labels[:FIRST])]
    # ArviZ's own table, once for each source and not once for each margin.
    most = max(FIRST, MOST_ROWS // (len(fits) + 1))
    shown = labels[:most]
    summaries = {f.css: _summary(f.margins, shown) for f in fits}
    if view.reference:
        summaries[TARGET_NAME] = _summary(view.reference, shown)
    blocks.append(_table(fits, labels[:FIRST], summaries, "marginals", ""))
    if rest := shown[FIRST:]:
        words = f"{len(rest)} more margins" + (
            f" (of {len(labels) - FIRST})" if len(labels) > most else ""
        )
        blocks.append(_table(fits, rest, summaries, "", words))
    lead = "Each margin for itself, in the model's own space." + (
        f" The worst {formatting.words(FIRST)} come first."
        if len(labels) > FIRST and view.reference
        else ""
    )
    return Section("marginals", "Marginals", lead, blocks)


def _forest(view: View, labels: Sequence[str]) -> Pictures:
    fits = view.drawn
    sources = {f.css: f.margins for f in fits}
    if view.reference:
        sources = {TARGET_NAME: view.reference, **sources}
    n = min(len(next(iter(source.values()))) for source in sources.values())
    standard = bool(view.reference) and len(labels) > 1
    place = {label: _scale(view.reference[label]) if standard else (0.0, 1.0) for label in labels}
    draws = {
        who: {label: (source[label][:n] - place[label][0]) / place[label][1] for label in labels}
        for who, source in sources.items()
    }
    axis = (
        "distance from the target's mean, in its sd"
        if standard
        else short(labels[0], LONGEST)
        if len(labels) == 1
        else "value"
    )
    how = "Dot: mean. Thick: 50 % interval, thin: 90 %. " + (
        "The topmost is the target: a fit should lie under it, and be as long."
        if view.reference
        else ""
    )
    return Pictures([Picture(intervals(draws, fits, labels, axis))], how.strip(), fits)


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


def _table(fits, labels, summaries, name: str, folded: str) -> Table:
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
    rows = [row for label in labels for row in _rows(fits, label, summaries)]
    if folded:
        return Table(columns, rows, name, folded=folded)
    caption = 'From arviz_stats.summary(kind="stats", ci_prob=0.9); ± is one standard error.'
    return Table(columns, rows, name, "Means, widths and quantiles", caption)


def _rows(fits, label: str, summaries) -> list[Row]:
    """The target's row and every fit's, all to the same decimal place."""
    sources = {TARGET_NAME: [Cell("Target")]} if TARGET_NAME in summaries else {}
    sources |= {fit.css: [name_of(fit)] for fit in fits}
    sd = float(summaries[next(iter(sources))].loc[label]["sd"])
    errors = {
        fit.css: [measured(fit.reading(m, label), marked=True) for m in ("mean_shift", "sd_ratio")]
        for fit in fits
    }
    nothing = [Cell(""), Cell("")]
    about = {fit.css: fit for fit in fits}
    return [
        Row(
            [
                Cell(short(label, LONGEST)),
                *name,
                *_statistics(summaries[who], label, sd),
                *errors.get(who, nothing),
            ],
            about.get(who),
        )
        for who, name in sources.items()
    ]


def _statistics(summary, label: str, sd: float) -> list[Cell]:
    values = [float(summary.loc[label][c]) for c in ("mean", "sd", LOWER, UPPER)]
    # To a hundredth of the sd: a mean of 0.00135 beside an sd of 1.6 is 0.00.
    easy = 1e-4 < sd < 1e6
    text = (
        (lambda v: formatting.fixed(v, formatting.decimals(sd / 100))) if easy else formatting.plain
    )
    return [Cell(text(v), value=v) for v in values]
