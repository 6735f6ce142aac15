"""Probability integral transform of the target's draws under a fit, by ArviZ."""

from __future__ import annotations

import numpy as np
from markupsafe import Markup

from vi_compare import formatting
from vi_compare.report import svg
from vi_compare.report.palette import Colour
from vi_compare.report.view import FitView, short


def transform(p: np.ndarray, q: np.ndarray, most: int = 500) -> np.ndarray:
    """Share of q (m,) below each of at most `most` of the draws p (n,), away from 0 and 1.

    ArviZ's envelope is meant for hundreds of values; thousands show every trifle.
    """
    p = p[:: max(1, -(-p.size // most))]
    share = np.searchsorted(np.sort(q), p) / q.size
    return np.clip(share, 1e-9, 1 - 1e-9)


def calibration(fit: FitView, u: np.ndarray, margin: str) -> Markup:
    """u (n,): uniform if the fit is calibrated for this margin."""
    return ecdf(
        f"pit-{fit.css}", u, fit.style.colour,
        f"rank of the target's draws of {short(margin)} under the fit",
        f"Calibration of {fit.name}",
        f"Ranks of {u.size} draws of {short(margin)} of the target under {fit.name}.",
    )  # fmt: skip


def ecdf(key: str, u: np.ndarray, colour: str, label: str, title: str, what: str) -> Markup:
    """Distribution of ranks u (n,) less the uniform one; `label` stands below it, `title` and
    `what` are read out."""
    import matplotlib.pyplot as plt

    with svg.drawing(key):
        pc = _plotted(colour, u)
        pc.viz["ref_line"]["u"].item().set_color(Colour.MUTED)
        figure = pc.get_viz("figure")
        # One frame for all; the numbers on the left are differences of three digits at most.
        svg.frame(figure, (0.66, 0.44, 0.06, 0.06))
        try:
            ax = figure.axes[0]
            _room(ax, u.size)
            if "suspicious_points" in pc.viz.children:
                pc.viz["suspicious_points"]["u"].item().set_sizes([4])
            ax.set(xlabel=label, ylabel="ECDF − uniform")
            return svg.inline(figure, key, title, f"{_told(u)} {what}")
        finally:
            plt.close(figure)


def _plotted(colour: str, u: np.ndarray):
    """ArviZ's figure, without the words that this page has elsewhere."""
    import arviz_base as azb
    import arviz_plots as azp

    return azp.plot_ecdf_pit(
        azb.from_dict({"posterior": {"u": u[None]}}),
        group="posterior",
        backend="matplotlib",
        visuals={
            "title": False,
            "xlabel": False,
            "ylabel": False,
            "p_value_text": False,
            "ecdf_lines": {"color": colour},
            "suspicious_points": {"color": Colour.INK},
        },
        figure_kwargs=svg.arviz_size(2.3),
    )


def _room(ax, n: int) -> None:
    """The same scale up and down, and never so fine that noise looks like a finding."""
    highest = max(float(np.abs(line.get_ydata()).max()) for line in ax.lines)
    limit = 1.12 * max(highest, 2 / np.sqrt(n))
    ax.set_ylim(-limit, limit)


def _told(u: np.ndarray) -> str:
    """The largest gap between the ranks' distribution and the uniform one."""
    ranks = np.sort(u)
    gap = np.arange(1, u.size + 1) / u.size - ranks
    at = int(np.argmax(abs(gap)))
    return (
        f"The largest difference from uniform ranks is {formatting.fixed(float(gap[at]), 2)}, "
        f"at rank "
        f"{formatting.fixed(float(ranks[at]), 2)}; chance alone gives up to "
        f"{formatting.fixed(1.36 / float(np.sqrt(u.size)), 2)}."
    )
