"""Which modes of the target a fit has."""

from __future__ import annotations

import math

from vi_compare import formatting
from vi_compare.report.blocks import (
    Cell,
    Column,
    Note,
    Picture,
    Pictures,
    Row,
    Section,
    Table,
    missing,
    name_of,
    spread_line,
)
from vi_compare.report.figures.basins import masses
from vi_compare.report.view import FitView, Mode, View

ORDER = 60

MOST_MODES = 8


def section(view: View) -> Section:
    title = "Mode coverage"
    if not view.modes:
        why = view.target["modes"]["reason"] or "no mode was found"
        return Section("modes", title, blocks=[Note(f"Not available: {why}.", boxed=True)])
    told = [m for m in view.modes if max([m.mass, *m.fits.values()]) >= view.counted_from]
    modes = (tuple(told) or view.modes)[:MOST_MODES]
    columns = [Column.words("Fit"), *(Column(m.short) for m in modes), Column("Covered")]
    target = [Cell("Target"), *(_mass(m.mass, m.n) for m in modes), Cell("")]
    rows = [Row(target), *(Row(_cells(view, fit, modes), fit) for fit in view.fits)]
    more = len(view.modes) - len(modes)
    caption = (
        "A mode counts as covered when the fit holds at least a tenth of the target's share of it; "
        "modes below 1 % are not counted. Within the basins that anybody found: a mode that every "
        "fit and the target's own draws miss cannot be seen."
        + (f" {formatting.count(more)} smaller modes are not shown." if more else "")
    )
    table = Table(columns, rows, "modes", caption=caption)
    fits = tuple(f for f in view.drawn if all(f.key in m.fits for m in modes))
    how = (
        "Upright bars mark the target's mass in each basin, markers each fit's. A marker at zero "
        "is a dropped mode."
    )
    # One mode is no news: the table says that all fits have it.
    seen = bool(fits) and len(modes) > 1
    pictures = [Pictures([Picture(masses(modes, fits))], how, fits)] if seen else []
    lead = (
        "From each draw, steepest ascent on log p ends at a mode; the share of draws that end "
        f"there is the mass of its basin. {formatting.count(modes[0].n)} draws of each were sent."
    )
    return Section("modes", title, lead, [*pictures, table])


def _mass(share: float, n: int, mark: str = "") -> Cell:
    if not n:
        return Cell(formatting.percent(share), mark=mark, value=share)
    # Agresti-Coull: no draw in a basin is not mass zero without error.
    smooth = (share * n + 2) / (n + 4)
    error = math.sqrt(smooth * (1 - smooth) / (n + 4))
    text, spread = formatting.pair(100 * share, 100 * error)
    return Cell(f"{text} %", spread_line(spread, " %"), mark, value=share, error=error)


def _cells(view: View, fit: FitView, modes: tuple[Mode, ...]) -> list[Cell]:
    if fit.key not in view.modes[0].fits:
        reason = fit.reading("mode_coverage").reason or "it has no draws"
        return [name_of(fit, about=True), *(missing(reason) for _ in modes), missing(reason)]
    shares = []
    for mode in modes:
        mark = fit.reading("mode_coverage", mode.name).mark
        shares.append(_mass(mode.fits[fit.key], mode.n, mark))
    marks = [fit.reading("mode_coverage", m.name).mark for m in view.modes]
    counted = [mark for mark in marks if mark]
    k = sum(mark != "bad" for mark in counted)
    mark = "" if not counted else "good" if k == len(counted) else "bad"
    return [name_of(fit, about=True), *shares, Cell(f"{k} of {len(counted)}", mark=mark, value=k)]
