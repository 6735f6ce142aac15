"""The report: one self-contained HTML page, made from a Comparison and nothing else.

The way data takes is one way: ``view`` (the Comparison, easy to read from) ->
``sections`` (plain blocks: sentences, tables, figures) -> ``page`` (Jinja2).
``figures`` holds one figure idea a file; each returns inline SVG.
"""

from __future__ import annotations

from html import escape

from vi_compare.comparison import Comparison


def render(comparison: Comparison) -> str:
    """The whole page as HTML text; the same text for the same comparison."""
    # matplotlib, ArviZ and Jinja2 are slow to import and only needed here.
    from vi_compare.report.page import page

    return page(comparison)


def _advice(comparison: Comparison) -> str:
    """Which fit to use for what, as a notebook shows it; "" where nothing can be said."""
    from vi_compare.report.advice import advice, question
    from vi_compare.report.view import View

    view = View.of(comparison)
    found = "".join(f"<li>{escape(one.text)}</li>" for one in advice(view))
    return f"<p><b>{escape(question(view))}</b></p><ul>{found}</ul>" if found else ""


Comparison.beside[:] = [_advice]
