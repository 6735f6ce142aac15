"""Densities on the line: the target filled, fits as lines."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from markupsafe import Markup

from vi_compare import formatting
from vi_compare.report import svg
from vi_compare.report.palette import Colour
from vi_compare.report.view import FitView, short


def density(
    x: np.ndarray, p: np.ndarray, fits: Sequence[tuple[FitView, np.ndarray]], axis: str
) -> Markup:
    """x (g,), p (g,), and q (g,) of every fit, per unit of x."""
    with svg.sheet("density", 3.1) as figure:
        ax = figure.subplots()
        svg.fill(ax, x, p, color=Colour.TARGET)
        ax.plot(x, p, color=Colour.INK, linewidth=1.0)
        for fit, q in fits:
            _line(ax, x, q, fit)
        ax.set(xlabel=short(axis, 60), ylabel="density", xlim=(x[0], x[-1]), ylim=(0, None))
        wrong = ", ".join(
            f"{fit.name} {formatting.percent(0.5 * np.trapezoid(abs(p - q), x))}" for fit, q in fits
        )
        return svg.inline(
            figure, "density", "Density of the target and of every fit",
            f"Densities over {axis}. Share of mass in the wrong place: {wrong}.",
        )  # fmt: skip


def log_density(
    x: np.ndarray, log_p: np.ndarray, fits: Sequence[tuple[FitView, np.ndarray]], axis: str,
    deepest: float = 25.0,
) -> Markup:  # fmt: skip
    """The same in nats, down to `deepest` below the target's peak: further down nothing can be
    told apart, and the page has no room."""
    top = max([log_p.max(), *(np.nanmax(q) for _, q in fits)])
    bottom = max(log_p.max() - deepest, min([log_p.min(), *(np.nanmin(q) for _, q in fits)]) - 1)
    with svg.sheet("log-density", 3.1) as figure:
        ax = figure.subplots()
        clip = lambda y: np.maximum(y, bottom - 5)
        svg.fill(ax, x, clip(log_p), bottom - 5, color=Colour.TARGET)
        ax.plot(x, clip(log_p), color=Colour.INK, linewidth=1.0)
        for fit, q in fits:
            _line(ax, x, clip(q), fit)
        ax.set(xlabel=short(axis, 60), ylabel="log density (nats)", xlim=(x[0], x[-1]))
        ax.set_ylim(bottom, top + 1)
        return svg.inline(
            figure, "log-density", "Log density of the target and of every fit",
            f"Log densities over {axis}. Where the target has more than a hundredth of its peak, "
            + "; ".join(_deepest(x, log_p, fit, q) for fit, q in fits) + ".",
        )  # fmt: skip


def _line(ax, x, y, fit: FitView) -> None:
    (line,) = ax.plot(x, y, color=fit.style.colour, linestyle=fit.style.line)
    svg.mine(line, fit.style)


def _deepest(x, log_p, fit: FitView, log_q) -> str:
    """How far below the target a fit falls, and where."""
    seen = np.flatnonzero(log_p > log_p.max() - np.log(100))
    worst = seen[np.argmax((log_p - log_q)[seen])]
    nats = formatting.plain(float(max(0.0, (log_p - log_q)[worst])), 2)
    return f"{fit.name} falls up to {nats} nats below it, at {formatting.plain(float(x[worst]), 2)}"
