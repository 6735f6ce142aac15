"""The ECDF of ranks less the uniform one, with the simultaneous envelope as ArviZ has it."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from markupsafe import Markup

from vi_compare.report import svg
from vi_compare.report.palette import Colour, Style
from vi_compare.report.view import short

# Heights (g,), lower and upper end (g,) of an envelope.
Envelope = tuple[np.ndarray, np.ndarray, np.ndarray]


def envelope(n: int, probability: float = 0.95, simulations: int = 1000) -> Envelope:
    """Of the ECDF of n uniform ranks: a band that holds all of it with this probability
    (Säilynoja, Bürkner and Vehtari 2022, "Graphical test for discrete uniformity")."""
    # By ArviZ's own function: its figure with this band, of independent ranks, is to go.
    from arviz_stats.ecdf_utils import ecdf_pit

    even = (np.arange(n) + 0.5) / n
    at, _, low, high = ecdf_pit(even, probability, simulations)
    return at, low, high


def ranks_picture(p: np.ndarray, label: str, number: int, bands: Mapping[int, Envelope]) -> Markup:
    """The difference of the ranks p (n,) from uniform ones.

    Args:
        number: of the picture on its page.
        bands: {n: `envelope`}.
    """
    from arviz_stats.ecdf_utils import compute_ecdf

    at, low, high = bands[p.size]
    gap = compute_ecdf(p, at) - at
    key = f"ranks-{number}"
    with svg.sheet(key, 2.3, (0.66, 0.44, 0.06, 0.06)) as figure:
        ax = figure.subplots()
        ax.fill_between(
            at, low - at, high - at, step="mid", color=Colour.LINE, alpha=0.3, linewidth=0
        )
        ax.axhline(0, color=Colour.MUTED, linewidth=0.8)
        ax.step(at, gap, where="mid", color=Style(0).colour, linewidth=1.4)
        out = (gap < low - at) | (gap > high - at)
        ax.scatter(at[out], gap[out], s=4, color=Colour.INK, zorder=3)
        limit = 1.12 * max(float(np.abs(gap).max()), float((high - at).max()))
        ax.set(
            xlim=(0, 1),
            ylim=(-limit, limit),
            xlabel=f"rank of the true {short(label)} among draws of the refit",
            ylabel="ECDF − uniform",
        )
        outside = f"{out.mean():.0%} of the line is outside of the band."
        return svg.inline(
            figure, key, f"Ranks of {label}", f"Ranks of {p.size} true values. {outside}"
        )
