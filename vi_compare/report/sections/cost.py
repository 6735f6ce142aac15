"""What each fit took."""

from __future__ import annotations

from typing import Any

import numpy as np

from vi_compare import formatting
from vi_compare.estimate import MetricKind
from vi_compare.report.blocks import (
    Cell,
    Column,
    Picture,
    Pictures,
    Row,
    Section,
    Table,
    missing,
    name_of,
    recorded,
)
from vi_compare.report.figures.cost import against_seconds
from vi_compare.report.view import FitView, View


def section(view: View) -> Section:
    columns = [
        Column.words("Fit"),
        Column("Compile", "s"),
        Column("Run", "s"),
        Column("Density", "evaluations"),
        Column("Gradient", "evaluations"),
        Column("Parameters"),
    ]
    caption = "All restarts together. Seconds depend on the machine and on what else it did."
    rows = [Row(_cells(fit), fit) for fit in view.fits]
    table = Table(columns, rows, "cost", caption=caption)
    return Section("cost", "Cost", blocks=[*_drawn(view), table], order=110)


def _drawn(view: View) -> list[Pictures]:
    """The first of these metrics that two fits have, against seconds."""
    for metric in ("forward_kl", "reverse_kl", "elbo"):
        about = view.abouts[metric]
        better = "Higher is better" if about.kind is MetricKind.LARGER else "Lower is better"
        points = [
            (fit, spent, reading.value, reading.error or 0.0)
            for fit in view.drawn
            if (reading := fit.reading(metric)).value is not None and (spent := _seconds(fit))
        ]
        if len(points) > 1:
            values = [value for _, _, value, _ in points]
            apart = min(values) > 0 and max(values) > 20 * min(values)
            how = f"{better}, further left is cheaper. Given fits took no time."
            picture = Picture(against_seconds(points, f"{about.name} ({about.suffix})", log=apart))
            return [Pictures([picture], how, [fit for fit, *_ in points])]
    return []


def _seconds(fit: FitView) -> float:
    """All that the fit took; 0 where nothing was fitted."""
    return 0.0 if fit.given else fit.seconds


def _cells(fit: FitView) -> list[Cell]:
    cost = fit.data["cost"]
    seconds = [recorded(cost[k], formatting.seconds) for k in ("compile_seconds", "run_seconds")]
    counts = [
        recorded(cost[k], formatting.count)
        for k in ("log_density_evaluations", "gradient_evaluations")
    ]
    if fit.given:
        seconds = [Cell("–", title="given: nothing was fitted") for _ in seconds]
    return [
        name_of(fit, about=True),
        *seconds,
        *counts,
        _number_of(parameters(fit.data["params"])),
    ]


def _number_of(parameters: int | None) -> Cell:
    if parameters is None:
        return missing("the fit failed")
    return Cell(formatting.count(parameters), value=float(parameters))


def parameters(params: dict[str, Any] | None) -> int | None:
    """How many numbers the guide has; arrays that stand in fits.nc are named by their shape."""
    if params is None:
        return None
    size = lambda v: int(np.prod(v["shape"])) if isinstance(v, dict) else int(np.size(v))
    return sum(size(v) for v in params.values())
