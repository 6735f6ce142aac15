"""Densities on the line: the target filled, fits as lines."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from markupsafe import Markup

from vi_compare.report import palette, svg
from vi_compare.report.view import FitView

# Further down than this nothing can be told apart, and the page has no room.
DEEPEST = 25.0  # nats below the target's peak


def density(
    x: np.ndarray, p: np.ndarray, fits: Sequence[tuple[FitView, np.ndarray]], axis: str
) -> Markup:
    """x (g,), p (g,), and q (g,) of every fit, per unit of x."""
    with svg.sheet("density", 3.1) as figure:
        ax = figure.subplots()
        svg.fill(ax, x, p, color=palette.TARGET)
        ax.plot(x, p, color=palette.INK, linewidth=1.0)
        for fit, q in fits:
            _line(ax, x, q, fit)
        ax.set(xlabel=axis, ylabel="density", xlim=(x[0], x[-1]), ylim=(0, None))
        names = ", ".join(fit.name for fit, _ in fits)
        return svg.inline(
            figure, "density", "Density of the target and of every fit",
            f"The density of the target as a filled shape over {axis}, and as lines: {names}.",
        )  # fmt: skip


def log_density(
    x: np.ndarray, log_p: np.ndarray, fits: Sequence[tuple[FitView, np.ndarray]], axis: str
) -> Markup:
    """The same in nats."""
    top = max([log_p.max(), *(np.nanmax(q) for _, q in fits)])
    bottom = max(log_p.max() - DEEPEST, min([log_p.min(), *(np.nanmin(q) for _, q in fits)]) - 1)
    with svg.sheet("log-density", 3.1) as figure:
        ax = figure.subplots()
        clip = lambda y: np.maximum(y, bottom - 5)
        svg.fill(ax, x, clip(log_p), bottom - 5, color=palette.TARGET)
        ax.plot(x, clip(log_p), color=palette.INK, linewidth=1.0)
        for fit, q in fits:
            _line(ax, x, clip(q), fit)
        ax.set(xlabel=axis, ylabel="log density (nats)", xlim=(x[0], x[-1]), ylim=(bottom, top + 1))
        names = ", ".join(fit.name for fit, _ in fits)
        return svg.inline(
            figure, "log-density", "Log density of the target and of every fit",
            f"The log density of the target as a filled shape over {axis}, and as lines: {names}.",
        )  # fmt: skip


def _line(ax, x, y, fit: FitView) -> None:
    (line,) = ax.plot(x, y, color=fit.style.colour, linestyle=fit.style.line)
    svg.mine(line, fit.style)
