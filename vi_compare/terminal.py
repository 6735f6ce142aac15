"""What the command line shows: progress, the table and the verdicts, lists."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.measure import Measurement
from rich.progress import (
    BarColumn,
    Progress,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

from vi_compare import catalogue
from vi_compare.comparison import Comparison
from vi_compare.difference import LEVEL, Change, Difference
from vi_compare.formatting import count, fixed, percent, plain, with_error

if TYPE_CHECKING:  # they need JAX or xarray, and what lists must not wait for that
    from vi_compare.report.view import Reading, View
    from vi_compare.run.checking import Inspection


class Terminal:
    """Progress bars on a terminal, plain lines elsewhere; always on stderr."""

    def __init__(self):
        self.console = Console(stderr=True)
        self.bars = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=24),
            TextColumn("{task.fields[words]}", markup=False),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=self.console,
            transient=True,
            disable=not self.console.is_terminal,
        )
        self.name, self.task, self.began = "", TaskID(0), 0.0

    def __enter__(self) -> Terminal:
        self.bars.start()
        return self

    def __exit__(self, *_) -> None:
        self.bars.stop()

    def begin(self, name: str) -> None:
        self.name, self.began = name, time.perf_counter()
        self.task = self.bars.add_task(name, total=None, words="")
        if not self.console.is_terminal:
            self._line(f"{name} ...")

    def progress(self, done: int, total: int, words: str) -> None:
        self.bars.update(self.task, completed=done, total=total, words=words)

    def end(self, words: str) -> None:
        self.bars.remove_task(self.task)
        seconds = time.perf_counter() - self.began
        self._line(f"{self.name}: {words + ', ' if words else ''}{seconds:.1f} s")

    def _line(self, text: str) -> None:
        self.console.print(text, markup=False, highlight=False, soft_wrap=True)


def summarise(comparison: Comparison, page: Path) -> None:
    """The scoreboard, the verdicts, which fit to use and where the page is, on stdout."""
    from vi_compare.report.advice import advice
    from vi_compare.report.view import View

    console = Console(file=sys.stdout)
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console.width = 110
    view = View.of(comparison)
    console.print(scoreboard(view, console))
    for fit in comparison.fits:
        console.print(f"\n{fit['name']}: {fit['verdict']['word']}", markup=False, style="bold")
        for reason in fit["verdict"]["reasons"]:
            console.print(f"  {reason}", markup=False, highlight=False)
        console.print(f"  Use it for: {fit['verdict']['use_for']}.", markup=False, highlight=False)
    if found := advice(view):
        console.print("\nWhich fit to use", markup=False, style="bold")
    for one in found:
        console.print(f"  {one.text}", markup=False, highlight=False)
    console.print()
    console.print(str(page), markup=False, soft_wrap=True)


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
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, padding=(0, 1))
    table.add_column("fit", overflow="fold")
    table.add_column("verdict")
    for metric in metrics:
        table.add_column(view.abouts[metric].heading, justify="right", no_wrap=True)
    for fit in view.fits:
        cells = (_cell(fit.reading(metric)) for metric in metrics)
        table.add_row(Text(fit.key), Text(fit.word), *cells)
    return table


def show_path(path: dict, page: Path) -> None:
    """What was found over alpha, in the page's own words, and where the page is, on stdout."""
    from vi_compare.report.path import Path as Branches
    from vi_compare.report.path import words

    console = Console(file=sys.stdout)
    found = Branches.of(path)
    nothing = f"No optimum of {path['guide']} was found."
    text = nothing if found is None else words.finding(found)
    console.print(text, markup=False, highlight=False, soft_wrap=True)
    console.print()
    console.print(str(page), markup=False, soft_wrap=True)


def _cell(reading: Reading) -> str:
    """A number as short as a terminal needs it: with its error where it has a unit."""
    if reading.value is None or reading.about is None:
        return "–"
    if reading.percent:
        return percent(reading.value)
    if reading.about.suffix:
        return with_error(reading.value, reading.error)
    return fixed(reading.value, 2)


HEADINGS = ("name", "what it is", "options", "from")


def show_catalogue() -> None:
    """Every entry of every kind with its line and its options, and the models at hand."""
    console = _stdout()
    for kind in catalogue.KINDS:
        console.print(_table(kind, HEADINGS, _entries(kind)))
    if others := [e for e in catalogue.entries("sections").values() if e.distribution]:
        rows = ((e.name, catalogue.summary(e.load()), "", _origin(e)) for e in others)
        console.print(_table("sections", HEADINGS, rows))
    if scripts := sorted(Path("models").glob("*.py")):
        lines = ((str(path), _first_line(path)) for path in scripts)
        console.print(_table("models", ("script", "what it is"), lines))


def _entries(kind: str) -> Iterator[tuple[str, str, str, str]]:
    """Name, line, options and distribution of every entry of one kind."""
    for name, module in catalogue.load_all(kind).items():
        origin = _origin(catalogue.entries(kind)[name])
        if kind == "metrics":
            yield name, module.ABOUT.meaning, "", origin
            continue
        known = catalogue.options(module.build).items()
        options = ", ".join(f"{option}={parameter.default}" for option, parameter in known)
        yield name, catalogue.summary(module.build), options, origin


def _stdout() -> Console:
    """Standard output. Where it is no terminal a line is as long as its text: nothing is cut
    or folded, so that `grep` finds an entry on one line."""
    console = Console(file=sys.stdout, highlight=False)
    if not console.is_terminal:
        console.width = 10_000
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
    when = lambda seconds: "a few seconds" if seconds is None else f"about {seconds:.0f} s"
    fits = ((name, solver, when(seconds)) for name, solver, seconds in found.fits)
    console.print(_table("fits", ("fit", "solver", "time"), fits))


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
        yield "reference: NUTS, which the run begins with and keeps"
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
