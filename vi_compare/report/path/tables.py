"""The tables of a path: its branches, and where the lowest one changes."""

from __future__ import annotations

import numpy as np

from vi_compare import formatting
from vi_compare.report.blocks import Cell, Column, Row, Table
from vi_compare.report.path import Branch, End, Path
from vi_compare.report.path.words import alpha, change, holds


def branches(path: Path) -> Table:
    columns = [
        Column.words("Branch"),
        Column("Optima", "with mirror images"),
        Column("Exists from", "α"),
        Column("to", "α"),
        Column.words("Lowest for α"),
        Column.words("What it does", "where it is lowest, or in its middle"),
    ]
    return Table(
        columns,
        [Row(_branch(path, b)) for b in path.branches],
        "branches",
        "Branches",
        f"“Edge” is where the search was told to stop. {_made(path)}",
    )


def _made(path: Path) -> str:
    data = path.data
    parts = [_method(str(data.get("method") or ""), data.get("nodes"))]
    parts += [f"{data['restarts']} restarts"] if data.get("restarts") else []
    parts += [f"{len(path.alphas)} values of α"]
    parts += [f"{formatting.seconds(data['seconds'])} s"] if data.get("seconds") else []
    text = ", ".join(p for p in parts if p)
    return f"{text[:1].upper()}{text[1:]}."


def _method(method: str, nodes: int | None) -> str:
    """ "quadrature with 6,001 nodes"; what was drawn is counted on the target's side."""
    name, what = (
        ("Monte Carlo", "draws of the target") if method == "monte carlo" else (method, "nodes")
    )
    return f"{name} with {formatting.count(int(nodes))} {what}" if nodes else name


def _branch(path: Path, branch: Branch) -> list[Cell]:
    spans = path.where_best(branch)
    where = formatting.listed([f"{alpha(low)} to {alpha(high)}" for low, high in spans])
    seen = np.flatnonzero(branch.best) if spans else np.arange(len(branch.alpha))
    return [
        Cell(branch.name),
        Cell(str(branch.images), value=branch.images),
        _place(branch.begin),
        _place(branch.end),
        Cell(where or "–"),
        Cell(holds(path, branch, int(seen[len(seen) // 2])) or "–"),
    ]


def _place(place: End) -> Cell:
    below = () if place.lost else ("edge",)
    if place.lost and place.error:
        text, spread = formatting.pair(place.alpha, place.error)
        return Cell(text, (f"± {spread}",), value=place.alpha, error=place.error)
    return Cell(alpha(place.alpha), below, value=place.alpha)


def transitions(path: Path) -> list[Table]:
    if not path.jumps:
        return []
    columns = [
        Column("At α"),
        Column.words("From"),
        Column.words("To"),
        Column("Jump", "nats, symmetrised KL"),
        Column.words("What changes"),
    ]
    rows = [
        Row(
            [
                _place(End(j.alpha, j.error, True)),
                Cell(j.old),
                Cell(j.new),
                Cell("–") if j.nats is None else Cell(formatting.plain(j.nats, 2), value=j.nats),
                Cell(change(path, j)),
            ]
        )
        for j in path.jumps
    ]
    return [Table(columns, rows, "transitions", "Where the lowest optimum changes")]
