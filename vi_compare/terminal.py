"""What the command line shows: progress, the table and the verdicts, lists."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

from rich.box import SIMPLE_HEAD
from rich.console import Console
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

from vi_compare import catalogue
from vi_compare.comparison import Comparison
from vi_compare.difference import LEVEL, Change, Difference
from vi_compare.formatting import count, fixed, percent, plain, with_error

if TYPE_CHECKING:  # it needs JAX, and what shows saved results must not wait for that
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


# heading, metric, how it is written
KL = (("forward KL", "forward_kl", with_error), ("reverse KL", "reverse_kl", with_error))
ELBO = (("ELBO", "elbo", with_error),)  # what is left where log Z is not known
SHARES = (
    ("missed", "missed_mass", lambda share, _: percent(share)),
    ("invented", "invented_mass", lambda share, _: percent(share)),
    ("k̂", "khat", lambda khat, _: fixed(khat, 2)),
)


def summarise(comparison: Comparison, page: Path) -> None:
    """The scoreboard, the verdicts, which fit to use and where the page is, on stdout."""
    from vi_compare.report.advice import advice
    from vi_compare.report.view import View

    console = Console(file=sys.stdout)
    if not console.is_terminal:
        console.width = 110
    title = f"{comparison.results['target']['name']}: nats ± standard error"
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, padding=(0, 1))
    table.add_column("fit", no_wrap=True, overflow="fold")
    known = lambda columns: [
        c for c in columns if any(_value(fit, c[1]) is not None for fit in comparison.fits)
    ]
    shown = (known(KL) or known(ELBO)) + known(SHARES)
    for heading, _, _ in shown:
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("verdict")
    for fit in comparison.fits:
        cells = (_cell(fit, metric, write) for _, metric, write in shown)
        table.add_row(fit["name"], *cells, fit["verdict"]["word"])
    console.print(table)
    for fit in comparison.fits:
        console.print(f"\n{fit['name']}: {fit['verdict']['word']}", markup=False, style="bold")
        for reason in fit["verdict"]["reasons"]:
            console.print(f"  {reason}", markup=False, highlight=False)
        console.print(f"  Use it for: {fit['verdict']['use_for']}.", markup=False, highlight=False)
    if found := advice(View.of(comparison)):
        console.print("\nWhich fit to use", markup=False, style="bold")
    for one in found:
        console.print(f"  {one.text}", markup=False, highlight=False)
    console.print()
    console.print(str(page), markup=False, soft_wrap=True)


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


def _value(fit: dict, metric: str) -> float | None:
    return fit["metrics"].get(metric, {}).get("value")


def _cell(fit: dict, metric: str, write: Callable[[float, float | None], str]) -> str:
    value = _value(fit, metric)
    return "–" if value is None else write(value, fit["metrics"][metric]["standard_error"])


def show_catalogue() -> None:
    """Every entry of every kind with its line and its options, and the models at hand."""
    for kind in catalogue.KINDS:
        print(f"{kind}:")
        for name, module in catalogue.load_all(kind).items():
            build = getattr(module, "build", None) or module.measure
            options = ", ".join(f"{o}={p.default}" for o, p in catalogue.options(build).items())
            line = f"{catalogue.summary(build)}{f' [{options}]' if options else ''}"
            print(f"  {name:<16} {line}{_origin(catalogue.entries(kind)[name])}")
    if others := [e for e in catalogue.entries("sections").values() if e.distribution]:
        print("sections:")
        for entry in others:
            print(f"  {entry.name:<16} {catalogue.summary(entry.load())}{_origin(entry)}")
    scripts = sorted(Path("models").glob("*.py"))
    if scripts:
        print("models:")
        for path in scripts:
            print(f"  {path!s:<16} {_first_line(path)}")


def _origin(entry: catalogue.Registered) -> str:
    return f" (of {entry.distribution})" if entry.distribution else ""


def _first_line(path: Path) -> str:
    import ast

    try:
        text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    except (SyntaxError, UnicodeDecodeError, OSError):
        return "(does not parse)"
    return text.partition("\n")[0]


def show_check(found: Inspection) -> None:
    """The facts of `check`, a line each."""
    print(f"{found.name}: {found.dim} unconstrained dimension{'s' if found.dim > 1 else ''}")
    for name, shape, support in found.sites:
        print(f"  site {name}: shape {shape}, support {support}")
    print(f"normalised: {'yes, log Z = 0' if found.normalised else 'no, log Z is unknown'}")
    if found.subsampled:
        print(f"minibatch: plates {', '.join(found.subsampled)}")
    print(f"starts: density and gradient are finite at {found.starts} random points")
    if found.stein:
        z, limit = found.stein
        print(f"reference: largest Stein z {z:.1f} (a good sample stays below {limit:.1f})")
    else:
        print("reference: none; missed mass cannot be seen")
    for doubt in found.doubts:
        print(f"reference in doubt: {doubt}")
    print(f"one gradient of log p: {1e6 * found.gradient_seconds:.2g} µs in a batch")
    for name, solver, seconds in found.fits:
        when = "a few seconds" if seconds is None else f"about {seconds:.0f} s"
        print(f"fit {name} by {solver}: {when}")


# Changed numbers of one metric of one fit that are printed; the rest are counted.
MOST_SHOWN = 3


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


def _show_metric(changes: list[Change]) -> None:
    for change in changes[:MOST_SHOWN]:
        print(f"  {_change(change)}")
    if len(changes) > MOST_SHOWN:
        print(f"  {changes[0].what}: {len(changes) - MOST_SHOWN} more")


def _change(change: Change) -> str:
    what = f"{change.what}, {change.label}" if change.label else change.what
    behind = [] if change.z is None else [f"{plain(change.z)} standard errors"]
    behind += [change.reason] if change.reason else []
    return f"{what}: {change.before} -> {change.after}{f' ({behind[0]})' if behind else ''}"
