"""Training loss against step: the chosen restart, the others faint."""

from __future__ import annotations

import numpy as np
from markupsafe import Markup

from vi_compare import formatting
from vi_compare.report import svg
from vi_compare.report.palette import Colour
from vi_compare.report.view import FitView


def losses(
    fit: FitView, loss: np.ndarray, chosen: int, tested: int,
    points: int = 300, most_others: int = 12, points_of_others: int = 50,
) -> Markup:  # fmt: skip
    """The loss of every restart against the step.

    Args:
        fit: whose losses they are.
        loss: (restart, step) in nats, padded with NaN where a restart ended early.
        chosen: the restart that became the fit.
        tested: its last steps that decided whether it had converged; 0 for none.
        points: drawn of the chosen one, each a mean over neighbouring steps.
        most_others, points_of_others: how many other restarts are drawn, and how finely.
    """
    key = f"loss-{fit.css}"
    others = [r for r in range(len(loss)) if r != chosen][:most_others]
    with svg.sheet(key, 2.5) as figure:
        ax = figure.subplots()
        thinned = [thin(loss[chosen], points), *(thin(loss[r], points_of_others) for r in others)]
        for step, mean in thinned[1:]:
            ax.plot(step, mean, color=fit.style.colour, linewidth=0.7, alpha=0.25)
        ax.plot(*thinned[0], color=fit.style.colour, linewidth=1.5)
        last = int(np.flatnonzero(np.isfinite(loss[chosen]))[-1])
        if tested:
            ax.axvspan(last - tested, last, color=Colour.LINE, alpha=0.35, linewidth=0)
        ax.set(xlabel="step", ylabel="loss (nats)", ylim=_room(thinned), xlim=(0, None))
        ax.locator_params(axis="x", integer=True)
        ax.spines["left"].set_color(Colour.LINE)
        return svg.inline(
            figure, key, f"Loss of {fit.name} against step",
            f"The chosen restart ends at {_end(thinned[0])} after {last + 1} steps."
            f" {_others(thinned[1:])}".strip(),
        )  # fmt: skip


def thin(loss: np.ndarray, points: int) -> tuple[np.ndarray, np.ndarray]:
    """At most `points` means over neighbouring steps, and where they stand; steps without a
    loss are left out."""
    step = np.flatnonzero(np.isfinite(loss))
    blocks = np.array_split(step, min(points, len(step))) if len(step) else []
    return (
        np.array([block.mean() for block in blocks]),
        np.array([loss[block].mean() for block in blocks]),
    )


def _room(
    thinned: list[tuple[np.ndarray, np.ndarray]], least: float = 0.002
) -> tuple[float, float]:
    """Limits that show the end of every restart; the first steps may run out on top.

    `least`: nats above and below, or a loss that stands still would look like noise.
    """
    tails = np.concatenate([mean[len(mean) // 20 :] for _, mean in thinned])
    low, high = np.quantile(tails, [0.0, 0.97])
    room = max(0.12 * (high - low), least)
    return float(low - room), float(high + 2 * room)


def _end(thinned: tuple[np.ndarray, np.ndarray]) -> str:
    return f"{formatting.plain(float(thinned[1][-1]))} nats"


def _others(thinned: list[tuple[np.ndarray, np.ndarray]]) -> str:
    ends = sorted((t for t in thinned if len(t[1])), key=lambda t: t[1][-1])
    if not ends:
        return ""
    return f"{len(ends)} other restarts end between {_end(ends[0])} and {_end(ends[-1])}."
