"""How far the chains went: from inside, from outside, and from each fit's own draws."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from vi_compare import formatting
from vi_compare.estimate import ALL
from vi_compare.report.blocks import (
    Cell,
    Column,
    Picture,
    Pictures,
    Row,
    Section,
    Table,
    measured,
    missing,
    name_of,
)
from vi_compare.report.figures.trails import Way, lengths
from vi_compare.report.pairs import worst_first
from vi_compare.report.view import FitView, Reading, View, shown


def section(view: View, most: int = 4) -> Section | None:
    sides = {name: view.way(name) for name in ("inside", "outside")}
    known = {name: way for name, way in sides.items() if way is not None}
    drifted = [fit for fit in view.fits if fit.data.get("drift")]
    if not known and not drifted:
        return None
    lead = (
        "Half of the chains began inside of a Gaussian near the target, half outside. Where their "
        "intervals have met and stay as long, nothing tells any more where they began. "
        if known
        else ""
    )
    if drifted:
        lead += (
            "Others began at each fit's own draws. Draws of the target would stay spread as they "
            "are, so a fit that chains leave is not the target. By how much it is off is known "
            "only where the reference says the same, and then as a bound."
        )
    blocks: list = [_pictures(view, known, most)] if view.reference else []
    blocks += [_table(drifted)] if drifted else []
    return Section("drift", "How far the chains went", lead.strip(), blocks, order=103)


def _pictures(view: View, sides: dict[str, Any], most: int) -> Pictures:
    fits = view.drawn
    labels = worst_first(fits, view.labels)[:most]
    ways = [*sides.values(), *(way for fit in fits if (way := fit.way) is not None)]
    last = max(float(way["iteration"].values[-1]) for way in ways)
    pictures = [
        Picture(_picture(f"drift-{i}", view, label, sides, fits, last), shown(label))
        for i, label in enumerate(labels)
    ]
    how = (
        "Length of the 90 % interval ÷ that of the reference, which is the thick line, over the "
        "iterations that each chain had made. Without colour: chains from inside (solid) and from "
        "outside (dashed). Coloured: the fits, and where their lines go on from there, chains from "
        "their draws. Bands are one standard error, as if each chain were worth one draw."
    )
    return Pictures(pictures, how, fits)


def _picture(
    key: str, view: View, label: str, sides: dict[str, Any], fits: Sequence[FitView], last: float
):
    low, high = np.quantile(view.reference[label], [0.05, 0.95])
    whole = float(high - low) or 1.0
    seen = {name: way for name, node in sides.items() if (way := _way(node, label, whole))}
    own = [(fit, _of_fit(fit, label, whole)) for fit in fits]
    return lengths(key, shown(label), seen, own, last)


def _of_fit(fit: FitView, label: str, whole: float) -> Way:
    """From the fit's own length on, where chains went on from there."""
    low, high = np.quantile(fit.margins[label], [0.05, 0.95])
    start = np.array([(high - low) / whole])
    found = None if fit.way is None else _way(fit.way, label, whole)
    if found is None:
        return Way(np.zeros(1), start, np.zeros(1))
    iterations, error = np.insert(found.iterations, 0, 0), np.insert(found.error, 0, 0.0)
    return Way(iterations, np.insert(found.length, 0, start), error)


def _way(node: Any, label: str, whole: float) -> Way | None:
    """A margin of a trail; None where it did not vary."""
    if label not in node["margin"].values:
        return None
    one = node.sel(margin=label)
    at, errors = (np.asarray(one[name].values, float) for name in ("quantile", "standard_error"))
    length = (at[:, -1] - at[:, 0]) / whole  # from the 5 % to the 95 % quantile
    error = np.hypot(errors[:, -1], errors[:, 0]) / whole
    return Way(np.asarray(node["iteration"].values, float), length, error)


def _table(fits: Sequence[FitView]) -> Table:
    columns = [
        Column.words("Fit"),
        Column("Chains"),
        Column("Iterations", "of each"),
        Column("Gradients"),
        Column.words("Furthest", "margin"),
        Column("Length", "fit ÷ chains now"),
        Column("Mean", "fit − chains now, in sd"),
    ]
    caption = (
        "Chains from the fit's own draws: the 90 % interval, and the mean, that is furthest from "
        "where they are now; ± is one standard error. 1 and 0 are perfect."
    )
    return Table(columns, [Row(_cells(fit), fit) for fit in fits], "drift", caption=caption)


def _cells(fit: FitView) -> list[Cell]:
    known = fit.data["drift"]
    numbers = [known[name] for name in ("chains", "iterations", "gradient_evaluations")]
    width, shift = (known["moved"][name] for name in ("width_ratio", "mean_shift"))
    about = fit.abouts["width_ratio"]
    by = {k: e["value"] for k, e in width.get("by", {}).items() if e["value"] is not None}
    worst = max(by, key=lambda label: about.badness(by[label]), default=ALL)
    return [
        name_of(fit),
        *(Cell(formatting.count(n), value=n) for n in numbers),
        Cell(shown(worst)) if by else missing("no margin varies"),
        measured(Reading(width["value"], width["standard_error"], about=about)),
        measured(Reading(shift["value"], shift["standard_error"])),
    ]
