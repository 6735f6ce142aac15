"""A matplotlib figure as inline SVG that takes its colours and fonts from the page."""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np
from markupsafe import Markup, escape

from vi_compare.report import palette
from vi_compare.report.palette import Colour

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Margins = tuple[float, float, float, float]  # left, bottom, right, top, in inches


def looks() -> dict[str, object]:
    """matplotlib's settings for every figure: small type, thin axes, no background."""
    return {
        "svg.fonttype": "none",
        "savefig.transparent": True,
        "figure.facecolor": "none",
        "axes.facecolor": "none",
        "axes.edgecolor": Colour.LINE,
        "axes.labelcolor": Colour.MUTED,
        "axes.titlecolor": Colour.INK,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.linewidth": 0.8,
        "axes.labelsize": 8.5,
        "axes.unicode_minus": True,
        "axes.formatter.useoffset": False,
        "xtick.color": Colour.LINE,
        "ytick.color": Colour.LINE,
        "xtick.labelcolor": Colour.MUTED,
        "ytick.labelcolor": Colour.MUTED,
        "xtick.labelsize": 8,
        "ytick.labelsize": 8,
        "text.color": Colour.INK,
        "font.family": ["DejaVu Sans"],
        "font.size": 8.5,
        # A site called "$x$" is a name, not mathematics.
        "text.parse_math": False,
        "lines.linewidth": 1.6,
        "lines.dash_capstyle": "butt",
        "lines.scale_dashes": False,
        "path.simplify": True,
        "path.simplify_threshold": 0.1,
    }


@contextmanager
def drawing(key: str) -> Iterator[None]:
    """The settings to draw the figure `key` under; restored afterwards."""
    import matplotlib

    with matplotlib.rc_context({**looks(), "svg.hashsalt": key}), warnings.catch_warnings():
        # Names may hold signs that the measuring font lacks; the page's font has them.
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        warnings.filterwarnings("ignore", message="Matplotlib currently does not support")
        yield


@contextmanager
def sheet(key: str, height: float, margins: Margins | None = None) -> Iterator[Figure]:
    """An empty figure as wide as a column and `height` inches high, outside pyplot.

    With `margins` the axes stand where these say; without, where their labels leave room,
    which takes a third of the time of drawing.
    """
    from matplotlib.figure import Figure

    with drawing(key):
        figure = Figure(figsize=_size(height), layout=None if margins else "constrained")
        if margins:
            frame(figure, margins)
        yield figure


def frame(figure: Figure, margins: Margins) -> None:
    """Let the axes stand where the margins say, whatever their labels."""
    figure.set_layout_engine(None)
    left, bottom, right, top = np.array(margins) / np.tile(figure.get_size_inches(), 2)
    figure.subplots_adjust(left, bottom, 1 - right, 1 - top, hspace=0.11)


def arviz_size(height: float) -> dict[str, object]:
    """`figure_kwargs` that make ArviZ draw as wide as everything else."""
    return {"figsize": _size(height), "figsize_units": "inches", "layout": "constrained"}


def _size(height: float, width: float = 4.9) -> tuple[float, float]:
    """Width and height in inches; by default as wide as one column of the page."""
    return width, height


def mine(artist, style: palette.Style) -> None:
    """Mark what belongs to a fit, so that the page can dim or hide it."""
    artist.set_gid(f"fit:{style.css}")


def fill(ax, x, y, base: float = 0.0, **looks) -> None:
    """Fill between y (g,) and `base`: half the points that ``fill_between`` writes, or fewer.

    Of long curves about 300 points are drawn: two or more a pixel.
    """
    from matplotlib.patches import Polygon

    thin = slice(None, None, max(1, len(x) // 300))
    xs, ys = [*x[thin], x[-1]], [*y[thin], y[-1]]
    corners = np.column_stack([[xs[0], *xs, xs[-1]], [base, *ys, base]])
    # As ``Axes.fill`` does, but all that it measures corner by corner is known here.
    ax.add_artist(Polygon(corners, linewidth=0, **looks))
    ax.update_datalim([corners.min(axis=0), corners.max(axis=0)])
    ax.autoscale_view()


def inline(figure: Figure, key: str, title: str, description: str) -> Markup:
    """`figure` as ``<svg>``, with `key` before every id. Call it under `drawing(key)`.

    Raises:
        ValueError: when something was drawn in a colour that the page cannot change.
    """
    settle(figure)
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    body = text[text.index(">", text.index("<svg")) + 1 : text.rindex("</svg>")]
    box = re.search(r'viewBox="([^"]+)"', text)
    assert box is not None
    names = (
        f'<title id="{key}-t">{escape(title)}</title>'
        f'<desc id="{key}-d">{escape(description)}</desc>'
    )
    return Markup(
        f'<svg class="figure" viewBox="{box[1]}" role="img" '
        f'aria-labelledby="{key}-t {key}-d">{names}{_tidy(body, key)}</svg>'
    )


def settle(figure: Figure) -> None:
    """Fix the layout now: what `place` says afterwards is where it will stand on the page.

    Saving would do the same, but by drawing everything twice.
    """
    from matplotlib.backends.backend_svg import FigureCanvasSVG

    figure.dpi = 72  # an SVG counts in points
    engine = figure.get_layout_engine()
    if engine is not None:
        FigureCanvasSVG(figure)  # text is measured as it will be written
        engine.execute(figure)
        figure.set_layout_engine(None)


def plain_ticks(axis, subs: tuple[int, ...] = (1, 2, 5), most: int = 9) -> None:
    """1, 2, 5, 10 on a log scale instead of powers of ten: figures hold no mathematics.

    Args:
        axis: ``ax.xaxis`` or ``ax.yaxis``.
        subs: in each decade, ticks at these multiples.
        most: ticks; matplotlib leaves decades out beyond.
    """
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axis.set_major_locator(LogLocator(subs=subs, numticks=most))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())


def place(figure: Figure, ax, points) -> np.ndarray:
    """(n, 2) points in data coordinates of `ax`, in the units of the figure's ``viewBox``."""
    spots = ax.transData.transform(np.atleast_2d(np.asarray(points, dtype=float)))
    return np.column_stack([spots[:, 0], figure.bbox.height - spots[:, 1]])


def over(picture: Markup, layer: Markup) -> Markup:
    """`picture` with `layer` drawn over it: what the page's script moves about."""
    return Markup(f"{picture.removesuffix('</svg>')}{layer}</svg>")


def _tidy(body: str, key: str) -> str:
    body = re.sub(r"<metadata>.*?</metadata>", "", body, flags=re.S)
    # It speaks to the whole page, which says the same in style.css.
    body = re.sub(r"<style[^>]*>.*?</style>", "", body, flags=re.S)
    body = re.sub(r"<!--.*?-->", "", body, flags=re.S)
    # Everything below changes attributes inside tags; text between tags stays as it is.
    body = re.sub(r"<[^>]*>", lambda tag: _attributes(tag[0], key), body)
    body = re.sub(r">\s*\n\s*<", "><", body)
    return _ids_in_use(body, key).strip()


def _attributes(tag: str, key: str) -> str:
    # Most tags have one or two of these: looking first saves most of the substitutions.
    if ' id="' in tag:
        tag = re.sub(r' id="fit:(\w+)"', r' class="fit \1"', tag)
        tag = re.sub(r' id="([^"]*)"', rf' id="{key}-\1"', tag)
    tag = tag.replace("xlink:href=", "href=")
    if "#" in tag:
        tag = re.sub(r'href="#([^"]*)"', rf'href="#{key}-\1"', tag)
        tag = re.sub(r"url\(#([^)]*)\)", rf"url(#{key}-\1)", tag)
        tag = re.sub(r"#[0-9a-fA-F]{6}\b(?=[;\"'])", _variable, tag)
    return re.sub(r' (d|x|y|points)="([^"]*)"', _rounded, tag)


def _rounded(attribute: re.Match[str]) -> str:
    shorter = lambda number: f"{float(number[0]):.1f}".rstrip("0").rstrip(".")
    value = re.sub(r"-?\d+\.\d{2,}", shorter, attribute[2])
    return f' {attribute[1]}="{" ".join(value.split())}"'


def _variable(colour: re.Match[str]) -> str:
    name = palette.variable(colour[0].lower())
    if name is None:
        raise ValueError(f"a figure is drawn in {colour[0]}, which is no colour of the page")
    return f"var({name})"


def _ids_in_use(body: str, key: str) -> str:
    """Only ids that something points to: matplotlib gives one to every group."""
    used = set(re.findall(rf'(?:href="#|url\(#)({re.escape(key)}-[^")]*)', body))
    keep = lambda found: found[0] if found[1] in used else ""
    return re.sub(rf' id="({re.escape(key)}-[^"]*)"', keep, body)
