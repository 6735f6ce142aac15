"""The target and its approximations, seen whole."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from vi_compare.report.blocks import Note, Picture, Pictures, Section
from vi_compare.report.curves import Curves
from vi_compare.report.figures import curves as draw_curves
from vi_compare.report.figures import ratios as draw_ratios
from vi_compare.report.ratios import Ratios
from vi_compare.report.view import FitView, View


def section(view: View) -> Section | None:
    curves = Curves.of(view)
    found = _ratios(view) if curves is None else _curves(view, curves)
    return Section("fits", "Target and fits", *found, order=10) if found else None


def _curves(view: View, curves: Curves) -> tuple[str, list]:
    """The lead, and what follows it."""
    fits = [(f, curves.log_q[f.key]) for f in view.drawn if f.key in curves.log_q]
    shown = tuple(f for f, _ in fits)
    lead = (
        "The same curves twice: on the left where the mass is, on the right, on a log scale, "
        f"how fast each fit gives up away from it. {view.left_out}"
    )
    pictures = [
        Picture(
            draw_curves.density(curves.x, curves.p, [(f, np.exp(q)) for f, q in fits], view.axis),
            f"Density. Target: {curves.normalised}. Fits: exact.",
        ),
        Picture(
            draw_curves.log_density(curves.x, curves.log_p, fits, view.axis),
            "Log density. Each 2.3 nats down is a factor of ten.",
        ),
    ]
    how = "A fit that runs below the grey shape misses mass; one that runs above it invents mass."
    return lead, [Pictures(pictures, how, shown, True)]


@dataclass(frozen=True)
class Side:
    """One side to look from: whose draws, what their mean is, and how to read the histogram."""

    under: str
    mean: str
    how: str
    ratio: Callable[[Ratios], np.ndarray | None]


def _ratios(view: View) -> tuple[str, list] | None:
    under_p = Side(
        "the target",
        "the mean is the forward KL",
        "A tail to the right under the target is mass that the fit misses.",
        lambda ratios: ratios.under_p,
    )
    under_q = Side(
        "the fit",
        "minus the mean is the reverse KL",
        "A tail to the left under the fit is mass that it invents.",
        lambda ratios: ratios.under_q,
    )
    pictures, how = [], []
    for side in (under_p, under_q):
        found = [
            (f, r) for f in view.drawn if (r := _finite(side.ratio(Ratios.of(view, f)), view.log_z))
        ]
        if found:
            pictures.append(_histogram(view, side, [(f, r[0]) for f, r in found]))
            how.append(side.how)
    if not pictures:
        return None
    lead = (
        f"Densities over {view.target['dim']} dimensions do not go on one axis, but their ratio "
        f"does: a perfect fit has the same log p − log q everywhere. {view.left_out}"
    )
    how.append("The outermost bins hold all that lies beyond.")
    blocks: list = [Pictures(pictures, " ".join(how), view.drawn)]
    if not view.has_reference:
        why = "There are no draws of the target, so what a fit misses cannot be seen here."
        blocks.append(Note(why, boxed=True))
    return lead, blocks


def _histogram(view: View, side: Side, found: list[tuple[FitView, np.ndarray]]) -> Picture:
    known = view.log_z is not None
    axis = "log p − log q (nats)" if known else "log p̃ − log q (nats, p̃ not normalised)"
    key = side.under.replace(" ", "-")
    caption = f"Under draws of {side.under}" + (f"; {side.mean}." if known else ".")
    return Picture(draw_ratios.histogram(f"ratio-{key}", side.under, found, axis), caption)


def _finite(ratio: np.ndarray | None, log_z: float | None) -> tuple[np.ndarray] | None:
    """The finite ratios less log Z, if there are any."""
    kept = np.zeros(0) if ratio is None else ratio[np.isfinite(ratio)] - (log_z or 0.0)
    return (kept,) if kept.size else None
