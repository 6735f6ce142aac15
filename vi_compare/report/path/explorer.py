"""What the slider over α needs, packed: curves as small whole numbers, sentences ready made."""

from __future__ import annotations

import base64
import gzip
import json
from collections.abc import Sequence
from typing import Any

import numpy as np

from vi_compare import formatting
from vi_compare.report.blocks import spread_line
from vi_compare.report.figures.morph import Stage
from vi_compare.report.path import Branch, Path, PathMeasure
from vi_compare.report.path.words import alpha, end, holds


def packed(
    path: Path, stages: Sequence[Stage], places: dict[str, np.ndarray], levels: int = 600
) -> str:
    """base64 of gzip of JSON.

    Args:
        stages: of every margin.
        places: {branch: (n, 2)} where its points stand on the trade-off, or nothing.
        levels: steps between density 0 and the top of the axis; 600 are a third of a pixel each.
    """
    data = {
        "alphas": path.alphas.tolist(),
        "said": [alpha(a) for a in path.alphas],
        "range": path.range,
        "best": [_best(path, a) for a in path.alphas],
        "stages": [_stage(stage, levels) for stage in stages],
        "branches": [_branch(path, b, stages, places.get(b.name), levels) for b in path.branches],
    }
    text = json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    # No time inside: the same path gives the same page.
    return base64.b64encode(gzip.compress(text.encode(), mtime=0)).decode("ascii")


def thin(values: np.ndarray, most: int = 200) -> np.ndarray:
    """Every k-th point of the grid, which is the last axis: at most `most` of them."""
    return values[..., :: -(-values.shape[-1] // most) or 1]


def _best(path: Path, a: float) -> int:
    found = path.best(a)
    return -1 if found is None else path.branches.index(found[0])


def _stage(stage: Stage, levels: int) -> dict[str, Any]:
    x = [round(float(v), 1) for v in thin(stage.x)]
    return {"x": x, "floor": round(stage.floor, 1), "step": (stage.floor - stage.ceiling) / levels}


def _branch(
    path: Path, branch: Branch, stages: Sequence[Stage], places: np.ndarray | None, levels: int
) -> dict[str, Any]:
    points = [(k, i) for k, a in enumerate(path.alphas) if (i := branch.at(a)) is not None]
    return {
        "name": branch.name,
        "range": f"{end(branch.begin)} to {end(branch.end)}",
        "at": [k for k, _ in points],
        "curves": [
            [_steps(branch.densities[i, m], stage.top, levels) for m, stage in enumerate(stages)]
            for _, i in points
        ],
        "place": [None if places is None else _spot(places[i]) for _, i in points],
        "holds": [holds(path, branch, i) for _, i in points],
        "readings": [[_said(path, branch, name, i) for name in PathMeasure] for _, i in points],
    }


def _steps(density: np.ndarray, top: float, levels: int) -> list[int]:
    """Changes from grid point to grid point: small numbers, most of them 0, pack well."""
    level = np.clip(np.nan_to_num(thin(density), posinf=top) / top, 0.0, 1.0)
    return np.diff(np.rint(levels * level).astype(int), prepend=0).tolist()


def _spot(spot: np.ndarray) -> list[float] | None:
    return [round(float(v), 1) for v in spot] if np.isfinite(spot).all() else None


def _said(path: Path, branch: Branch, measure: PathMeasure, i: int) -> str:
    reading = branch.reading(measure, i)
    if reading.value is None:
        return "not available"
    about = path.abouts.get(measure)  # the α-divergence itself is no metric, and has no unit
    if about and about.percent:
        return formatting.percent(reading.value, reading.error or None)
    value, spread = formatting.pair(reading.value, reading.error or None)
    return " ".join([value, *spread_line(spread), about.suffix if about else ""]).strip()
