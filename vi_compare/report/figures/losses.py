"""Training loss against step: the chosen restart, the others faint."""

from __future__ import annotations

import numpy as np
from markupsafe import Markup

from vi_compare import formatting
from vi_compare.report import palette, svg
from vi_compare.report.view import FitView

POINTS, FAINT_POINTS, MOST_FAINT = 300, 50, 12
LEAST_ROOM = 0.002  # nats above and below: what moves less stands still


def losses(fit: FitView, loss: np.ndarray, chosen: int, tested: int) -> Markup:
    """loss (restart, step), padded with NaN where a restart ended early; the last `tested`
    steps of the chosen one, 0 for none, are those that its end was judged by."""
    key = f"loss-{fit.css}"
    others = [r for r in range(len(loss)) if r != chosen][:MOST_FAINT]
    with svg.sheet(key, 2.5) as figure:
        ax = figure.subplots()
        thinned = [thin(loss[chosen], POINTS), *(thin(loss[r], FAINT_POINTS) for r in others)]
        for step, mean in thinned[1:]:
            ax.plot(step, mean, color=fit.style.colour, linewidth=0.7, alpha=0.25)
        ax.plot(*thinned[0], color=fit.style.colour, linewidth=1.5)
        last = int(np.flatnonzero(np.isfinite(loss[chosen]))[-1])
        if tested:
            ax.axvspan(last - tested, last, color=palette.LINE, alpha=0.35, linewidth=0)
        ax.set(xlabel="step", ylabel="loss (nats)", ylim=_room(thinned), xlim=(0, None))
        ax.locator_params(axis="x", integer=True)
        ax.spines["left"].set_color(palette.LINE)
        return svg.inline(
            figure, key, f"Loss of {fit.name} against step",
            f"The chosen restart ends at {_end(thinned[0])} after {last + 1} steps."
            f" {_others(thinned[1:])}".strip(),
        )  # fmt: skip


def thin(loss: np.ndarray, points: int) -> tuple[np.ndarray, np.ndarray]:
    """Steps and means over neighbouring steps, at most so many; steps without a loss left out."""
    step = np.flatnonzero(np.isfinite(loss))
    blocks = np.array_split(step, min(points, len(step))) if len(step) else []
    return (
        np.array([block.mean() for block in blocks]),
        np.array([loss[block].mean() for block in blocks]),
    )


def _room(thinned: list[tuple[np.ndarray, np.ndarray]]) -> tuple[float, float]:
    """Limits that show the end of every restart; the first steps may run out on top."""
    tails = np.concatenate([mean[len(mean) // 20 :] for _, mean in thinned])
    low, high = np.quantile(tails, [0.0, 0.97])
    room = max(0.12 * (high - low), LEAST_ROOM)
    return float(low - room), float(high + 2 * room)


def _end(thinned: tuple[np.ndarray, np.ndarray]) -> str:
    return f"{formatting.plain(float(thinned[1][-1]))} nats"


def _others(thinned: list[tuple[np.ndarray, np.ndarray]]) -> str:
    ends = sorted((t for t in thinned if len(t[1])), key=lambda t: t[1][-1])
    if not ends:
        return ""
    return f"{len(ends)} other restarts end between {_end(ends[0])} and {_end(ends[-1])}."
