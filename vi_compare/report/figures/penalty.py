"""Three strips on one axis: p and q, and where each of the two divergences is paid."""

from __future__ import annotations

import numpy as np
from markupsafe import Markup

from vi_compare import formatting
from vi_compare.report import svg
from vi_compare.report.curves import Curves, Penalty
from vi_compare.report.palette import Colour
from vi_compare.report.view import FitView, short


def strips(
    fit: FitView, curves: Curves, log_q: np.ndarray, forward: Penalty, reverse: Penalty, axis: str
) -> Markup:
    """The figure of one fit; `log_q` (g,) on the grid of `curves`."""
    key = f"penalty-{fit.css}"
    x, p, q = curves.x, curves.p, np.exp(log_q)
    avoid, force = zones(curves.log_p, log_q)
    totals = [curves.integral(penalty.paid) for penalty in (forward, reverse)]
    # One frame for all fits: their labels are the same, and readers compare them.
    with svg.sheet(key, 3.7, (0.36, 0.44, 0.06, 0.04)) as figure:
        axes = figure.subplots(3, 1, sharex=True, height_ratios=(1, 0.9, 0.9))
        _tint(axes[0], x, avoid, Colour.AVOID)
        _tint(axes[0], x, force, Colour.FORCE)
        _tint(axes[1], x, avoid, Colour.AVOID)
        _tint(axes[2], x, force, Colour.FORCE)
        svg.fill(axes[0], x, p, color=Colour.TARGET)
        axes[0].plot(x, p, color=Colour.INK, linewidth=0.9)
        axes[0].plot(x, q, color=fit.style.colour, linestyle=fit.style.line)
        axes[0].set(ylabel="p and q", ylim=(0, None), yticks=[])
        for ax, penalty, total, name in zip(
            axes[1:], (forward, reverse), totals, ("p·log(p/q)", "q·log(q/p)"), strict=True
        ):
            _strip(ax, x, penalty, total, name, fit.style)
        axes[-1].set(xlabel=short(axis, 60), xlim=(x[0], x[-1]))
        for ax in axes[:-1]:
            ax.xaxis.set_visible(False)  # the lowest strip's axis is theirs too
        figure.align_ylabels(axes)
        words = [formatting.plain(total) for total in totals]
        lost, made = (
            formatting.percent(min(1.0, curves.integral(np.where(zone, y, 0.0))))
            for zone, y in ((avoid, p), (force, q))
        )
        return svg.inline(
            figure, key, f"Where {fit.name} pays",
            f"Three strips over {axis}. Top: densities of the target and of {fit.name}. Middle: "
            f"where forward KL is paid, {words[0]} nats in all. Bottom: where reverse KL is paid, "
            f"{words[1]} nats in all. Where p is more than ten times q lies {lost} of the target; "
            f"where q is more than ten times p lies {made} of the fit.",
        )  # fmt: skip


def zones(
    log_p: np.ndarray, log_q: np.ndarray, times: float = 10.0, negligible: float = 1e-4
) -> tuple[np.ndarray, np.ndarray]:
    """(g,) masks: p more than ten `times` q, and q more than ten times p.

    Where both densities are a `negligible` share of the highest peak neither says anything.
    """
    ratio, peak = log_p - log_q, np.exp(max(log_p.max(), log_q.max()))
    seen = np.exp(np.maximum(log_p, log_q)) > negligible * peak
    return seen & (ratio > np.log(times)), seen & (-ratio > np.log(times))


def _tint(ax, x: np.ndarray, zone: np.ndarray, colour: str) -> None:
    edges = np.flatnonzero(np.diff(np.concatenate([[0], zone.astype(int), [0]])))
    for first, last in zip(edges[::2], edges[1::2], strict=True):
        ax.axvspan(x[first], x[last - 1], color=colour, linewidth=0)


def _strip(ax, x: np.ndarray, penalty: Penalty, total: float, name: str, style) -> None:
    ax.plot(x, penalty.usual, color=Colour.MUTED, linewidth=0.8, linestyle=(0, (2, 2)))
    svg.fill(ax, x, penalty.paid, color=style.colour, alpha=0.35)
    ax.plot(x, penalty.paid, color=style.colour, linewidth=1.2)
    ax.axhline(0, color=Colour.LINE, linewidth=0.7)
    low, high = min(penalty.usual.min(), 0.0), max(penalty.usual.max(), penalty.paid.max(), 1e-12)
    # Room on top for the total, which must not lie on the curve.
    ax.set(ylabel=name, yticks=[0], ylim=(low - 0.05 * (high - low), high + 0.3 * (high - low)))
    ax.text(
        0.995, 0.98, f"total {formatting.plain(total)} nats", transform=ax.transAxes,
        ha="right", va="top", fontsize=8, fontweight="bold",
    )  # fmt: skip
