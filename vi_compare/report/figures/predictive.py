"""Observations beside what is predicted of them, by ArviZ: the form that suits their outcomes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from markupsafe import Markup

from vi_compare.report import svg
from vi_compare.report.figures.pit import ecdf
from vi_compare.report.palette import Colour
from vi_compare.report.view import short


def predictive(key: str, made: xr.DataArray, seen: xr.DataArray, site: str, form: Form) -> Markup:
    """Replicates (chain, draw, ...) and observations of a site."""
    import matplotlib.pyplot as plt

    few = _flat(made, seen)
    with svg.drawing(key):
        figure = form.draw(few).get_viz("figure")
        svg.frame(figure, (0.66, 0.44, 0.06, 0.06))
        try:
            across = form.across.format(site=short(site))
            figure.axes[0].set(xlabel=across, ylabel=form.up)
            what = f"Observations of {short(site)} beside what the model predicts of them."
            return svg.inline(figure, key, f"Predictions of {short(site)}", what)
        finally:
            plt.close(figure)


def ranks(key: str, u: np.ndarray, site: str) -> Markup:
    """Ranks u (n,) of the observations among what is predicted: uniform where the model fits."""
    label = f"rank of the observations of {short(site)} in what is predicted"
    return ecdf(key, u, Colour.INK, label, f"Ranks of {short(site)}", f"{u.size} observations.")


def _flat(made: xr.DataArray, seen: xr.DataArray) -> xr.DataTree:
    """The groups that ArviZ's checks read, the observations on one axis."""
    rows = made.transpose("chain", "draw", ...).values.reshape(-1, seen.size)
    return xr.DataTree.from_dict(
        {
            "posterior_predictive": xr.Dataset({"y": (("chain", "draw", "at"), rows[None])}),
            "observed_data": xr.Dataset({"y": ("at", seen.values.reshape(-1))}),
        }
    )


def _kwargs(height: float = 2.3) -> dict[str, Any]:
    return {"backend": "matplotlib", "figure_kwargs": svg.arviz_size(height)}


def _distribution(dt: xr.DataTree, kind: str = "kde"):
    import arviz_plots as azp

    looks = {
        "predictive_dist": {"color": Colour.MUTED, "alpha": 0.35, "width": 0.8},
        "observed_dist": {"color": Colour.INK, "width": 1.8},
        "title": False,
    }
    return azp.plot_ppc_dist(dt, kind=kind, num_samples=25, visuals=looks, **_kwargs())


def _cumulative(dt: xr.DataTree):
    return _distribution(dt, "ecdf")


def _rootogram(dt: xr.DataTree):
    import arviz_plots as azp

    looks = {
        "predictive_markers": {"color": Colour.MUTED},
        "observed_markers": {"color": Colour.INK},
        "credible_interval": {"color": Colour.MUTED},
        "grid": False,
        "xlabel": False,
        "ylabel": False,
        "title": False,
    }
    return azp.plot_ppc_rootogram(dt, visuals=looks, **_kwargs())


def _calibration(dt: xr.DataTree):
    import arviz_plots as azp

    looks = {
        "lines": {"color": Colour.INK},
        "reference_line": {"color": Colour.MUTED},
        "credible_interval": {"color": Colour.MUTED, "alpha": 0.2},
        "xlabel": False,
        "ylabel": False,
        "title": False,
    }
    return azp.plot_ppc_pava(dt, visuals=looks, **_kwargs())


@dataclass(frozen=True)
class Form:
    """How outcomes of a kind are shown.

    Attributes:
        draw: ArviZ's plot of the groups of one site.
        across, up: what stands on the axes; how: how it is read.
    """

    draw: Callable[[xr.DataTree], Any]
    across: str
    up: str
    how: str


_LINES = "The thick line is the data, thin ones are data that the model draws."
FORMS = {
    "continuous": Form(_distribution, "{site}", "density", _LINES),
    "category": Form(_cumulative, "{site}", "share at or below", _LINES),
    "count": Form(
        _rootogram, "{site}", "how often (roots)",
        "Bars are how often the model draws a count, points how often it was observed.",
    ),
    "binary": Form(
        _calibration, "predicted chance of {site}", "share observed",
        "Among observations with a predicted chance, the share that came true: on the diagonal "
        "the model is right. The band is what chance gives.",
    ),
}  # fmt: skip
