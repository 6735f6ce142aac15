"""Intervals of every margin, target and fits, by ArviZ."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from markupsafe import Markup

from vi_compare import formatting
from vi_compare.report import svg
from vi_compare.report.palette import Colour
from vi_compare.report.view import FitView, short


def intervals(
    draws: Mapping[str, Mapping[str, np.ndarray]],
    target: Mapping[str, np.ndarray] | None,
    fits: Sequence[FitView],
    labels: Sequence[str],
    axis: str,
) -> Markup:
    """The mean, the 50 % and the 90 % interval of every margin.

    Args:
        draws: {css of a fit: {margin: (n,)}}.
        target: {margin: (n,)} of the target, which stands on top; None without a reference.
        fits: those in `draws`.
        labels: margins, the topmost first.
        axis: what stands below the axis.
    """
    styles = {fit.css: fit.style for fit in fits}
    names = [f"m{i}" for i in range(len(labels))]
    sources = ({} if target is None else {"target": target}) | dict(draws)
    with svg.drawing("forest"):
        trees = {who: _tree([sources[who][label] for label in labels], names) for who in sources}
        colours = [styles[who].colour if who in styles else Colour.INK for who in trees]
        told = _told(draws, target, fits, labels)
        return _drawn(trees, colours, styles, names, labels, axis, told)


def _tree(columns: Sequence[np.ndarray], names: Sequence[str]):
    import arviz_base as azb

    return azb.from_dict(
        {"posterior": {name: x[None] for name, x in zip(names, columns, strict=True)}}
    )


def _drawn(trees, colours, styles, names, labels, axis, told: str) -> Markup:
    import arviz_plots as azp
    import matplotlib.pyplot as plt

    height = 0.7 + 0.15 * len(names) * (len(trees) + 1)
    pc = azp.plot_forest(
        trees,
        combined=True,
        labels=[],
        ci_probs=(0.5, 0.9),
        point_estimate="mean",
        ci_kind="eti",
        color=colours,
        backend="matplotlib",
        figure_kwargs=svg.arviz_size(height) | {"width_ratios": [0.001, 1]},
    )
    figure = pc.get_viz("figure")
    try:
        artist = lambda visual, name, who: pc.viz[visual][name].sel(model=who).item()
        for name in names:
            for who in (w for w in trees if w in styles):
                for visual in ("twig", "trunk", "point_estimate"):
                    svg.mine(artist(visual, name, who), styles[who])
                artist("point_estimate", name, who).set_color(styles[who].colour)
        ax = artist("twig", names[0], next(iter(trees))).axes
        rows = [np.mean([artist("twig", name, who).get_ydata() for who in trees]) for name in names]
        figure.axes[0].remove()  # the column for ArviZ's own labels
        ends = [y for line in ax.lines for y in line.get_ydata()]
        ax.set_ylim(min(ends) - 0.25, max(ends) + 0.25)
        ax.set_yticks(rows, [short(label, 28) for label in labels])
        ax.tick_params(axis="y", length=0, left=True, labelleft=True)
        ax.spines["left"].set_visible(False)
        ax.set_xlabel(short(axis, 60))
        return svg.inline(
            figure, "forest", "Intervals of every margin",
            f"Mean, 50 % and 90 % interval of {len(names)} margin{'s' * (len(names) > 1)}. {told}",
        )  # fmt: skip
    finally:
        plt.close(figure)


def _told(draws, target, fits: Sequence[FitView], labels: Sequence[str]) -> str:
    """For the margin shown first: how far off every fit is, and how long its interval."""
    label, p = labels[0], target
    if p is None:
        means = ", ".join(f"{f.name} {formatting.plain(draws[f.css][label].mean())}" for f in fits)
        return f"Means of {short(label)}: {means}."
    width = lambda x: float(np.diff(np.quantile(x, (0.05, 0.95)))[0])
    sd, whole = float(p[label].std()) or 1.0, width(p[label]) or 1.0
    off = ", ".join(
        f"{f.name} off by "
        f"{formatting.fixed((draws[f.css][label].mean() - p[label].mean()) / sd, 2)} "
        f"sd and {formatting.fixed(width(draws[f.css][label]) / whole, 2)} times as wide"
        for f in fits
    )
    return f"For {short(label)}, against the target: {off}."
