"""The page of a calibration, from ``calibration.json`` and the ranks behind it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from vi_compare import formatting
from vi_compare.report.blocks import Cell, Column, Command, Note, Picture, Pictures, Row, Section
from vi_compare.report.blocks import Table as Rows
from vi_compare.report.figures.ecdf import envelope, ranks_picture
from vi_compare.report.page import environment, style
from vi_compare.report.palette import Style
from vi_compare.report.sbc import words
from vi_compare.report.view import shown


def render(calibration: Mapping[str, Any], ps: Mapping[str, np.ndarray]) -> str:
    """The whole page as HTML text.

    Args:
        calibration: as in ``calibration.json``.
        ps: {margin: ranks (N,) as shares}; NaN where there is none.
    """
    word, mark = words.verdict(calibration)
    text = (
        environment()
        .get_template("calibration.html.jinja")
        .render(
            title=f"Calibration of {calibration['fit']} on {calibration['target']['name']}",
            fit=calibration["fit"],
            name=calibration["target"]["name"],
            word=word,
            mark=mark,
            sentences=words.sentences(calibration),
            facts=_facts(calibration),
            sections=[_ranks(calibration, ps), _margins(calibration), _how(calibration)],
            style=style(),
            line=Style(0),
        )
    )
    return f"{text.strip()}\n"


def _facts(calibration: Mapping[str, Any]) -> list[tuple[str, str]]:
    return [
        ("Data sets", formatting.count(calibration["simulations"])),
        ("True values from", words.source(calibration)),
        ("Refits not converged", str(calibration["not_converged"])),
        ("Refits failed", str(calibration["failed"])),
        ("Margins", str(len(calibration["margins"]))),
        ("Draws of each refit", formatting.count(calibration["draws"])),
        ("Seed", str(calibration["environment"]["seed"])),
    ]


def _ranks(calibration: Mapping[str, Any], ps: Mapping[str, np.ndarray], most: int = 8) -> Section:
    """Pictures of the `most` margins that are furthest off."""
    chosen = words.worst_first(calibration)[:most]
    finite = {one["label"]: _finite(ps[one["label"]]) for one in chosen}
    band = {n: envelope(n) for n in {p.size for p in finite.values()} if n}
    pictures = [
        Picture(ranks_picture(finite[one["label"]], one["label"], i, band), words.margin(one))
        for i, one in enumerate(chosen)
        if finite[one["label"]].size
    ]
    more = len(calibration["margins"]) - len(chosen)
    rest = f" The {formatting.words(len(chosen))} that are furthest off are shown." if more else ""
    lead = (
        "Where the true values rank among the draws of the fits to the data made of them: if the "
        f"fits are right, every rank is as likely.{rest}"
    )
    how = (
        "The line is the share of data sets up to each rank, less what even ranks would give; the "
        "band holds all of it in 95 of 100 calibrated fits, for one margin by itself, and dots "
        "mark where it does not. A hill is a fit that lies too high, a valley one that lies too "
        "low. First a hill, then a valley: too sure. First a valley, then a hill: too diffuse."
    )
    return Section("ranks", "Ranks", lead, [Pictures(pictures, how)])


def _finite(p: np.ndarray) -> np.ndarray:
    return p[np.isfinite(p)]


def _margins(calibration: Mapping[str, Any], open_rows: int = 30) -> Section:
    columns = [
        Column.words("Margin"),
        Column("Location", "off by, sd"),
        Column("Width", "of the right one"),
        *(Column("p-value", name) for name in ("location", "width", "shape")),
        Column.words("Finding"),
    ]
    rows = [_row(one) for one in words.worst_first(calibration)]
    caption = (
        f"In standard deviations of the fit; ± is one standard error. p-values are adjusted for "
        f"all {3 * len(rows)} tests (Holm): below {calibration['level']:g} a margin is accused. "
        f"log p is the density itself: a fit whose draws have too high a log p, or too sure a one, "
        f"is too concentrated as a whole."
    )
    folded = f"All {len(rows)} margins" if len(rows) > open_rows else ""
    return Section("margins", "Margins", "", [Rows(columns, rows, caption=caption, folded=folded)])


def _row(one: Mapping[str, Any]) -> Row:
    pair = lambda x: formatting.pair(x["value"], x["standard_error"])
    (shift, shift_error), (width, width_error) = pair(one["shift"]), pair(one["width"])
    cells = [
        Cell(shown(one["label"])),
        Cell(shift, (f"± {shift_error}",)),
        Cell(width, (f"± {width_error}",)),
        *(Cell(formatting.p_value(p)) for p in one["p_values"].values()),
        Cell(words.finding(one), mark="bad" if one["misfits"] else "good"),
    ]
    return Row(cells)


def _how(calibration: Mapping[str, Any]) -> Section:
    notes: Sequence[Note] = [Note(text) for text in words.method(calibration)]
    command = calibration["environment"]["command"]
    return Section("how", "How this was found", "", [*notes, Command(command)])
