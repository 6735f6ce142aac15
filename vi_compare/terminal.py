"""What the command line shows on stdout: the table and the verdicts, lists."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from vi_compare import catalogue
from vi_compare.comparison import Comparison
from vi_compare.difference import LEVEL, Change, Difference
from vi_compare.errors import InputError
from vi_compare.formatting import SIGNS, count, fixed, percent, plain, with_error

if TYPE_CHECKING:  # they need JAX or xarray, and what lists must not wait for that
    from vi_compare.report.view import FitView, Reading, View
    from vi_compare.run.checking import Inspection


def summarise(comparison: Comparison, page: Path, verbose: bool = False) -> None:
    """The scoreboard, a line for every fit, which fit to use and where the page is, on stdout;
    where `verbose`, every reason of every verdict."""
    from vi_compare.report.advice import advice, question
    from vi_compare.report.climb import where_it_ended
    from vi_compare.report.headline import rests_on
    from vi_compare.report.predicted import misfit
    from vi_compare.report.view import View

    console = _page_of_text()
    view = View.of(comparison)
    console.print(scoreboard(view, console))
    for fit in view.fits:
        for line in _reasons(fit) if verbose else [_one_line(fit)]:
            console.print(line, soft_wrap=not verbose)
    if ended := where_it_ended(view):
        console.print(Text(ended, "bold"), soft_wrap=True)
    if judged := rests_on(view):
        console.print(Text(judged), soft_wrap=True)
    if wrong := misfit(view):
        console.print(Text(wrong, "red"), soft_wrap=True)
    if found := advice(view):
        console.print(f"\n{question(view)}", style="bold")
    for one in found:
        console.print(Text(f"  {one.text}"))
    console.print()
    console.print(Text(str(page)), soft_wrap=True)


def _one_line(fit: FitView) -> Text:
    """A fit, its verdict, and the first reason of it."""
    return Text.assemble(
        f"{fit.key}: ", (fit.word, _style(fit)), *(f". {why}" for why in fit.reasons[:1])
    )


def _reasons(fit: FitView) -> Iterator[Text]:
    yield Text.assemble((f"\n{fit.key}: ", "bold"), (fit.word, f"bold {_style(fit)}"))
    yield from (Text(f"  {reason}") for reason in fit.reasons)
    yield Text(f"  Use it for: {fit.data['verdict']['use_for']}.")
    yield Text(f"  Next: {fit.data['verdict']['next_step']}.")


def _style(fit: FitView) -> str:
    """The colour of its verdict. Rich leaves it out where NO_COLOR is set."""
    from vi_compare.report.page import mark_of

    return _colour(mark_of(fit.data["verdict"]))


def _colour(mark: str) -> str:
    """Of a mark, as Rich calls it."""
    return {"good": "green", "near": "yellow", "bad": "red"}[mark]


def scoreboard(view: View, console: Console) -> Table:
    """Fit, verdict and both KLs, in full at any width; other numbers where there is room."""
    known = lambda *metrics: [
        m for m in metrics if any(fit.reading(m).value is not None for fit in view.fits)
    ]
    # Where log Z is not known the ELBO is what is left of the KLs.
    first = known("forward_kl", "reverse_kl") or known("elbo")
    more = known("missed_mass", "invented_mass", "khat")
    while True:
        table = _scores(view, [*first, *more])
        wanted = Measurement.get(console, console.options.update(width=10_000), table).maximum
        if not more or wanted <= console.width:
            return table
        more.pop()


def _scores(view: View, metrics: Sequence[str]) -> Table:
    title = f"{view.target['name']}: nats ± standard error"
    table = Table(title=Text(title), title_justify="left", box=SIMPLE_HEAD, padding=(0, 1))
    table.add_column("fit", overflow="fold")
    table.add_column("verdict")
    for metric in metrics:
        table.add_column(Text(view.abouts[metric].heading), justify="right", no_wrap=True)
    for fit in view.fits:
        cells = (_cell(fit.reading(metric)) for metric in metrics)
        table.add_row(Text(fit.key), Text(fit.word, _style(fit)), *cells)
    return table


def show_path(path: dict, page: Path) -> None:
    """What was found over alpha, in the page's own words, and where the page is, on stdout."""
    from vi_compare.report.path import Path as Branches
    from vi_compare.report.path import words

    console = _page_of_text()
    found = Branches.of(path)
    nothing = f"No optimum of {path['guide']} was found."
    text = nothing if found is None else words.finding(found)
    console.print(Text(text), soft_wrap=True)
    console.print()
    console.print(Text(str(page)), soft_wrap=True)


def show_calibration(calibration: dict, page: Path, most: int = 20) -> None:
    """The verdict of a calibration, the `most` margins that are furthest off, what was found in
    the page's own words, and where the page is, on stdout."""
    from vi_compare.report.sbc import words

    console = _page_of_text()
    word, mark = words.verdict(calibration)
    ranked = words.worst_first(calibration)
    pair = lambda x: with_error(x["value"], x["standard_error"])
    rows = (
        (one["label"], pair(one["shift"]), pair(one["width"]), words.finding(one, sizes=False))
        for one in ranked[:most]
    )
    title = f"{calibration['fit']}: margins, furthest off first"
    console.print(_table(title, ("margin", "off by, sd", "width ÷ right one", "finding"), rows))
    if len(ranked) > most:
        console.print(f"  and {count(len(ranked) - most)} more on the page\n")
    console.print(Text.assemble(f"{calibration['fit']}: ", (word, _colour(mark))))
    for sentence in words.sentences(calibration):
        console.print(Text(sentence))
    console.print()
    console.print(Text(str(page)), soft_wrap=True)


def _cell(reading: Reading) -> str:
    """A number as short as a terminal needs it: with its error where it has a unit."""
    if reading.value is None or reading.about is None:
        return "–"
    if reading.about.suffix:
        return with_error(reading.value, reading.error, bound=reading.bound)
    if reading.percent:
        return percent(reading.value, bound=reading.bound)
    return SIGNS[reading.bound] + fixed(reading.value, 2)


HEADINGS = ("name", "what it is", "options", "from")


def show_catalogue() -> bool:
    """Every entry of every kind with its line and its options, and the models at hand; whether
    all of them can be used."""
    console, whole = _stdout(), True
    for kind in (*catalogue.KINDS, "sections"):
        rows = []
        for entry in catalogue.entries(kind).values():
            try:
                what, options = _described(kind, entry.load())
            except InputError as error:
                what, options, whole = f"cannot be used: {error}", "", False
            rows.append((entry.name, what, options, _origin(entry)))
        console.print(_table(kind, HEADINGS, rows))
    if scripts := sorted(Path("models").glob("*.py")):
        lines = ((str(path), _first_line(path)) for path in scripts)
        console.print(_table("models", ("script", "what it is"), lines))
    return whole


def _described(kind: str, module: ModuleType) -> tuple[str, str]:
    """An entry's line and its options."""
    if kind == "metrics":
        return module.ABOUT.meaning, ""
    if kind == "sections":
        return catalogue.summary(module), ""
    known = catalogue.options(module.build).items()
    options = ", ".join(f"{option}={parameter.default}" for option, parameter in known)
    return catalogue.summary(module.build), options


def _stdout() -> Console:
    """Standard output. Where it is no terminal a line is as long as its text: nothing is cut
    or folded, so that `grep` finds an entry on one line."""
    console = Console(file=sys.stdout, highlight=False, emoji=False)
    if not console.is_terminal:
        console.width = 10_000
    return console


def _page_of_text(width: int = 110) -> Console:
    """Standard output for what is read as a page: of this width where nothing says another."""
    console = Console(file=sys.stdout, highlight=False, emoji=False)
    if not console.is_terminal and not os.environ.get("COLUMNS", "").isdigit():
        console.width = width
    return console


def _table(title: str, headings: Sequence[str], rows: Iterable[Sequence[str]]) -> Table:
    """A table of texts, folded where they do not fit and never cut; a column without any
    text is left out."""
    filled = list(rows)
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, padding=(0, 1))
    shown = [i for i in range(len(headings)) if any(row[i] for row in filled)]
    for i in shown:
        table.add_column(headings[i], no_wrap=i == 0, overflow="fold")
    for row in filled:
        table.add_row(*(Text(row[i]) for i in shown))
    return table


def _origin(entry: catalogue.Registered) -> str:
    return f"of {entry.distribution}" if entry.distribution else ""


def _first_line(path: Path) -> str:
    import ast

    try:
        text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    except (SyntaxError, UnicodeDecodeError, OSError):
        return "(does not parse)"
    return text.partition("\n")[0]


def show_check(found: Inspection) -> None:
    """What `check` found: facts a line each, then the sites and the fits as tables."""
    console = _stdout()
    for line in _facts(found):
        console.print(Text(line), soft_wrap=True)
    sites = ((name, str(shape), support) for name, shape, support in found.sites)
    console.print(_table("sites", ("site", "shape", "support"), sites))
    fits = ((name, solver, _about(seconds)) for name, solver, seconds in found.fits)
    console.print(_table("fits", ("fit", "solver", "time"), fits))


def _about(seconds: float | None) -> str:
    """A prediction, in two digits: it is right within a factor of three."""
    if seconds is None:
        return "not known"
    return "no time" if seconds == 0 else f"about {float(f'{max(seconds, 1):.2g}'):.0f} s"


def _facts(found: Inspection) -> Iterator[str]:
    yield f"{found.name}: {found.dim} unconstrained dimension{'s' if found.dim > 1 else ''}"
    yield f"normalised: {'yes, log Z = 0' if found.normalised else 'no, log Z is unknown'}"
    if found.subsampled:
        yield f"minibatch: plates {', '.join(found.subsampled)}"
    yield from found.told
    yield f"starts: density and gradient are finite at {found.starts} random points"
    if found.stein:
        z, limit = found.stein
        yield f"reference: largest Stein z {z:.1f} (a good sample stays below {limit:.1f})"
    elif found.chains:
        what, seconds = found.chains
        yield f"reference: {what}, {_about(seconds)}, which the run begins with"
    else:
        yield "reference: none; missed mass cannot be seen"
    for doubt in found.doubts:
        yield f"reference in doubt: {doubt.words}"
    yield f"one gradient of log p: {1e6 * found.gradient_seconds:.2g} µs in a batch"


def show_difference(found: Difference, names: tuple[str, str]) -> None:
    """What changed between two runs, a line each, the result in one sentence at the end."""
    for letter, name, only in zip("AB", names, found.only, strict=True):
        print(f"{letter}: {name}")
        for fit in only:
            print(f"  only in {letter}: {fit}")
    _show_changes("context, no change", found.context)
    _show_changes("cost, no change (seconds are not compared)", found.costs)
    changes = (*found.words, *found.numbers)
    for fit in dict.fromkeys(change.fit for change in changes):
        print(fit or "shared by all fits")
        own = [change for change in changes if change.fit == fit]
        for _, some in groupby(own, key=lambda change: change.what):
            _show_metric(list(some))
    for note in found.notes:
        print(f"note: {note}")
    print(
        f"A change exceeds {found.limit:.2f} standard errors: level {LEVEL:g} over "
        f"{count(found.tests)} comparison{'' if found.tests == 1 else 's'} (Bonferroni)."
    )
    print(found.sentence)


def _show_changes(title: str, changes: Iterable[Change]) -> None:
    lines = [f"  {f'{change.fit}: ' if change.fit else ''}{_change(change)}" for change in changes]
    if lines:
        print("\n".join([f"{title}:", *lines]))


def _show_metric(changes: list[Change], most: int = 3) -> None:
    """The first `most` changed numbers of one metric of one fit; the rest are counted."""
    for change in changes[:most]:
        print(f"  {_change(change)}")
    if len(changes) > most:
        print(f"  {changes[0].what}: {len(changes) - most} more")


def _change(change: Change) -> str:
    what = f"{change.what}, {change.label}" if change.label else change.what
    behind = [] if change.z is None else [f"{plain(change.z)} standard errors"]
    behind += [change.reason] if change.reason else []
    return f"{what}: {change.before} -> {change.after}{f' ({behind[0]})' if behind else ''}"
