"""Sections into HTML, by Jinja2 with everything escaped."""

from __future__ import annotations

import base64
import contextlib
import gzip
import hashlib
import json
import re
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemBytecodeCache, FileSystemLoader, StrictUndefined
from jinja2.bccache import Bucket
from markupsafe import Markup, escape

from vi_compare import formatting
from vi_compare.cache import writable
from vi_compare.comparison import Comparison
from vi_compare.report import headline, sections
from vi_compare.report.advice import advice, question
from vi_compare.report.marks import SIGNS
from vi_compare.report.view import View, short, shown
from vi_compare.verdict import Word


def page(comparison: Comparison) -> str:
    """The whole page."""
    view = View.of(comparison)
    template = environment().get_template("page.html.jinja")
    made = sections.all_of(view)
    moves = any(block.kind == "explorer" for part in made for block in part.blocks)
    text = template.render(
        view=view,
        answer=headline.answer(view),
        advice=advice(view),
        question=question(view),
        title=_title(len(view.fits)),
        facts=_facts(view),
        description=_paragraphs(view.target.get("description") or ""),
        sections=made,
        results=_packed(comparison.results),
        style=style(),
        scripts=[_asset("script.js"), *([_asset("path/explorer.js")] if moves else [])],
    )
    return f"{text.strip()}\n"


def _title(n: int) -> str:
    return f"{formatting.words(n).capitalize()} approximation{'' if n == 1 else 's'} of"


def mark_of(verdict: dict[str, Any]) -> str:
    """The mark beside a verdict's word: a fit that errs on the wide side has a lesser fault."""
    match verdict["word"]:
        case Word.FAITHFUL:
            return "good"
        case Word.UNVERIFIED | Word.CANNOT_TELL | Word.NOT_CONVERGED:
            return "near"
    return "near" if verdict["vague"] or verdict["mild"] else "bad"


def style() -> Markup:
    """The style sheet of the page, which the gallery shares."""
    return _asset("style.css")


class _KeptTemplates(FileSystemBytecodeCache):
    """Compiled templates on disk; a disk that is full or gone is done without."""

    def load_bytecode(self, bucket: Bucket) -> None:
        with contextlib.suppress(OSError):
            super().load_bytecode(bucket)

    def dump_bytecode(self, bucket: Bucket) -> None:
        with contextlib.suppress(OSError):
            super().dump_bytecode(bucket)


@cache
def environment() -> Environment:
    kept = writable("templates")
    made = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        bytecode_cache=_KeptTemplates(str(kept)) if kept else None,
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters["soft"] = _soft
    made.filters["fold"] = _fold
    made.filters["hash_of"] = _hash_of
    made.globals["mark_of"] = mark_of
    made.globals["signs"] = SIGNS
    return made


def _soft(text: str) -> Markup:
    """`text`, which may break after a slash, a comma or an underscore, and not at the hyphens
    of a short word."""
    soft = re.sub(r"(?<=[/,_])(?=\w)", "<wbr>", str(escape(text)))
    # Words with hyphens, of 20 characters at the most.
    hyphenated = r"(?<![\w-])(?=[\w-]{,20}(?![\w-]))\w+(?:-\w+)+"
    return Markup(re.sub(hyphenated, r'<span class="whole">\g<0></span>', soft))


def _hash_of(script: Markup) -> Markup:
    """The source of one script in a Content-Security-Policy: nothing else on the page runs, were
    it ever to get there unescaped."""
    digest = hashlib.sha256(script.encode()).digest()
    return Markup(f"'sha256-{base64.b64encode(digest).decode('ascii')}'")


def _fold(text: str, most: int = 600) -> Markup:
    """`text`, or half of `most` characters with the rest folded where nobody would read it all."""
    if len(text) <= most:
        return escape(text)
    start, rest = text[: most // 2], text[most // 2 :]
    return Markup("<details><summary>{}…</summary>{}</details>").format(start, rest)


@cache
def _asset(name: str) -> Markup:
    return Markup((Path(__file__).parent / name).read_text(encoding="utf-8"))


def _paragraphs(text: str, most: int = 300) -> list[str]:
    """The paragraphs of a text; the first, which opens the others, has at most `most` characters
    and is followed by itself where it is longer."""
    parts = [" ".join(part.split()) for part in text.split("\n\n") if part.strip()]
    long = parts and len(parts[0]) > most
    return [short(parts[0], most), *parts] if long else parts


def _sites(shapes: dict[str, list[int]], most: int = 8) -> str:
    """The first names, with their shapes, and how many more."""
    named = ", ".join(_site(name, shape) for name, shape in list(shapes.items())[:most])
    more = len(shapes) - most
    return f"{named} and {more} more" if more > 0 else named


def _facts(view: View) -> list[tuple[str, str]]:
    """What is good to know before any number is read."""
    target, reference = view.target, view.target["reference"]
    d = target["dim"]
    facts = [
        ("Dimensions", str(d)),
        ("Sites", _sites(target["sites"])),
        *([("Computed of them", _sites(own))] if (own := target.get("quantities")) else []),
        *([("Judged by", ", ".join(judged))] if (judged := target.get("judged")) else []),
        ("Normalised", "yes" if target["normalised"] else "no"),
        (
            "Reference",
            f"{formatting.count(reference['draws'])} draws, {reference['source']}"
            if view.has_reference
            else "none",
        ),
    ]
    if stein := reference.get("stein"):
        facts.append(("Reference check", _stein(stein)))
    if (known := target["log_normalizer"]) and not target["normalised"]:
        facts.append(("log Z", formatting.with_error(known["value"], known["standard_error"])))
    if view.modes:
        facts.append(("Modes found", _modes(view)))
    facts.append(("Seed", str(view.results["environment"]["seed"])))
    facts.append(
        ("vi_compare", view.results["environment"]["versions"].get("vi-compare", "unknown"))
    )
    return facts


def _modes(view: View) -> str:
    counted = sum(mode.mass >= view.counted_from for mode in view.modes)
    found = str(len(view.modes))
    return (
        found
        if counted == len(view.modes)
        else f"{found}, {counted} of at least {100 * view.counted_from:g} %"
    )


def _site(name: str, shape: list[int]) -> str:
    name = shown(name)
    return f"{name} {' × '.join(map(str, shape))}" if shape else name


def _stein(stein: dict[str, Any]) -> str:
    if stein["largest_z"] is None:
        return "could not be made"
    sign = "✓" if stein["passed"] else "✗"
    return f"{sign} Stein |z| {stein['largest_z']:.1f} of {stein['limit']:.1f} allowed"


def _packed(results: dict[str, Any]) -> str:
    """results.json as base64 of gzip: a third of the size, and nothing that HTML could read."""
    text = json.dumps(results, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    # No time inside: the same results give the same page.
    return base64.b64encode(gzip.compress(text.encode(), mtime=0)).decode("ascii")
