"""A calibration as plain data: what ``calibration.json`` holds (schema 1)."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from vi_compare.calibration.kept import Ranks
from vi_compare.calibration.ranks import MarginRanks, RankTests
from vi_compare.comparison import number, writable
from vi_compare.comparison.writing import put_in_place
from vi_compare.report.sbc import render


def write(folder: Path, calibration: Mapping[str, Any], ranks: Ranks) -> Path:
    """Write ``calibration.json`` and the page, together or not at all; the page's path.

    Raises:
        InputError: when the folder cannot be written.
    """
    text = json.dumps(calibration, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    page = render(calibration, dict(zip(calibration["labels"], ranks.ps.T, strict=True)))
    files = {"calibration.json": text, "calibration.html": page}
    with writable(folder) as scratch:
        for name, content in files.items():
            (scratch / name).write_text(content, encoding="utf-8")
        put_in_place(scratch, folder)
    return folder / "calibration.html"


def results(
    ranks: Ranks,
    sites: Mapping[str, str],
    judged: Sequence[str],
    fit: str,
    worth: float,
) -> dict[str, Any]:
    """What the ranks say.

    Args:
        sites: {label: the site or quantity that it is an entry of}, of the columns of the ranks.
        judged: names of sites and quantities that are looked at; empty for all.
        fit: its name.
        worth: independent draws that the true values were taken from.
    """
    tests = RankTests(worth=worth)
    known = dict(zip(sites, ranks.ps.T, strict=True))
    some = {label: p for label, p in known.items() if not judged or sites[label] in judged}
    found = tests.judge(some)
    n = int((~ranks.failed).sum())
    power = tests.power(n, len(some)) if n >= tests.least else None
    return {
        "fit": fit,
        "simulations": len(ranks),
        "not_converged": int((~ranks.converged & ~ranks.failed).sum()),
        "failed": int(ranks.failed.sum()),
        "labels": list(sites),
        "judged": list(judged),
        "level": tests.level,
        "values_worth": number(worth),
        "power": None if power is None else vars(power),
        "margins": [_margin(label, one) for label, one in found.items()],
    }


def _margin(label: str, one: MarginRanks) -> dict[str, Any]:
    names = ("location", "width", "shape")
    return {
        "label": label,
        "n": one.n,
        "shift": {"value": one.shift, "standard_error": float(one.shift_error)},
        "width": {"value": one.width, "standard_error": float(one.width_error)},
        "p_values": dict(zip(names, map(float, one.p_values), strict=True)),
        "misfits": [misfit.value for misfit in one.misfits],
    }
