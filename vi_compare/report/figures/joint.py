"""Two margins at once: points of the target, and points of a fit on top."""

from __future__ import annotations

import numpy as np
from markupsafe import Markup

from vi_compare import formatting
from vi_compare.report import svg
from vi_compare.report.palette import Colour
from vi_compare.report.view import FitView, short


def cloud(
    key: str,
    fit: FitView,
    labels: tuple[str, str],
    p: tuple[np.ndarray, np.ndarray],
    q: tuple[np.ndarray, np.ndarray],
    points: int = 400,
) -> Markup:
    """p and q: each the (n,) draws of the two margins, of which `points` are drawn."""
    key = f"{key}-{fit.css}"
    with svg.sheet(key, 3.0) as figure:
        ax = figure.subplots()
        thin = tuple(tuple(x[:: max(1, x.size // points)][:points] for x in xy) for xy in (p, q))
        _points(ax, *thin[0], colour=Colour.MUTED, size=4.5, alpha=0.45)
        _points(ax, *thin[1], colour=fit.style.colour, size=2.8, alpha=0.9)
        for axis, i in (("x", 0), ("y", 1)):
            _limits(ax, axis, thin[0][i], thin[1][i])
        ax.set(xlabel=short(labels[0], 32), ylabel=short(labels[1], 32))
        r = [formatting.fixed(_correlation(*xy), 2) for xy in (p, q)]
        return svg.inline(
            figure, key, f"{short(labels[0])} against {short(labels[1])}, target and {fit.name}",
            f"Points of the target and of {fit.name}. The correlation is {r[0]} under the target "
            f"and {r[1]} under the fit; sd of the fit ÷ target: "
            f"{formatting.fixed(_ratio(q[0], p[0]), 2)} and "
            f"{formatting.fixed(_ratio(q[1], p[1]), 2)}.",
        )  # fmt: skip


def _points(ax, x: np.ndarray, y: np.ndarray, *, colour: str, size: float, alpha: float) -> None:
    """All points as one path of zero-length strokes: markers would each be an element."""
    from matplotlib.patches import PathPatch
    from matplotlib.path import Path

    vertices = np.repeat(np.column_stack([x, y]), 2, axis=0)
    codes = np.tile([Path.MOVETO, Path.LINETO], len(x))
    path = Path(vertices, codes)
    path.should_simplify = False  # it would drop strokes that go nowhere
    ax.add_patch(
        PathPatch(
            path, fill=False, edgecolor=colour, linewidth=size,
            capstyle="round", alpha=alpha,
        )
    )  # fmt: skip


def _limits(ax, axis: str, p: np.ndarray, q: np.ndarray) -> None:
    """Room for both, but a fit that runs far away does not shrink the target to a dot."""
    low, high = float(p.min()), float(p.max())
    room = max(high - low, 1e-12)
    low, high = max(low - room, min(low, q.min())), min(high + room, max(high, q.max()))
    ax.set(**{f"{axis}lim": (low - 0.05 * room, high + 0.05 * room)})


def _correlation(x: np.ndarray, y: np.ndarray) -> float:
    return float(np.corrcoef(x, y)[0, 1]) if x.std() > 0 and y.std() > 0 else 0.0


def _ratio(q: np.ndarray, p: np.ndarray) -> float:
    return float(q.std() / p.std())
