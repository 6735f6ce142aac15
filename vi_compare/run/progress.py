"""How a run goes on, said while it does: a line on a terminal or in a notebook's cell.

There are no remaining times. A search stops when it has arrived, a chain when it has mixed, and
neither tells beforehand; what is known is how much of a stage is done, and for how long it has run.
"""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import Any, Protocol, Self

from vi_compare.formatting import count


class Observer(Protocol):
    """Told how a run goes on."""

    def begin(self, name: str, place: str = "", *, quiet: bool = False) -> None:
        """A stage begins; `place` says which of how many it is ("fit 3 of 4"). A `quiet` one
        is only worth showing while it lasts."""
        ...

    def progress(self, done: int, total: int | None, words: str) -> None:
        """So much of the stage is done; a `total` of None: nobody knows of how much."""
        ...

    def end(self, words: str) -> None:
        """The stage is over, and this is what came of it."""
        ...


class Silent:
    """An observer that shows nothing."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        pass

    def begin(self, name: str, place: str = "", *, quiet: bool = False) -> None:
        pass

    def progress(self, done: int, total: int | None, words: str) -> None:
        pass

    def end(self, words: str) -> None:
        pass


class Terminal(Silent):
    """A line that moves on a terminal, plain lines elsewhere; always on stderr."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

        self.console = Console(stderr=True, emoji=False)
        self.bars = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=16),
            TextColumn("{task.fields[words]}", markup=False),
            TimeElapsedColumn(),
            console=self.console,
            transient=True,
            disable=not self.console.is_terminal,
        )
        self.name, self.quiet, self.began = "", False, 0.0

    def __enter__(self) -> Self:
        self.bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.bars.stop()

    def begin(self, name: str, place: str = "", *, quiet: bool = False) -> None:
        self.name, self.quiet, self.began = name, quiet, time.perf_counter()
        self.task = self.bars.add_task(_titled(name, place), total=None, words="")
        if not self.console.is_terminal and not quiet:
            self._line(f"{name} ...")

    def progress(self, done: int, total: int | None, words: str) -> None:
        self.bars.update(self.task, completed=done, words=_counted(done, total, words))
        # `update` takes a total of None for one that stays as it was.
        self.bars.tasks[-1].total = total

    def end(self, words: str) -> None:
        self.bars.remove_task(self.task)
        seconds = time.perf_counter() - self.began
        if not self.quiet:
            self._line(f"{self.name}: {words + ', ' if words else ''}{seconds:.1f} s")

    def _line(self, text: str) -> None:
        self.console.print(text, markup=False, highlight=False, soft_wrap=True)


class NotebookLine(Silent):
    """One line below a notebook's cell, which is gone at the end.

    By IPython's own displays: Rich would need ipywidgets for it, and does without by a warning.
    """

    def __init__(self, least_seconds: float = 0.2):
        from IPython.display import display

        self.least_seconds, self.told, self.began, self.title = least_seconds, 0.0, 0.0, ""
        self.handle = display({"text/plain": ""}, raw=True, display_id=True)

    def __exit__(self, *_: object) -> None:
        self._show("")

    def begin(self, name: str, place: str = "", *, quiet: bool = False) -> None:
        self.title, self.began = _titled(name, place), time.perf_counter()
        self._show(f"{self.title} ...")

    def progress(self, done: int, total: int | None, words: str) -> None:
        now = time.perf_counter()
        if now - self.told >= self.least_seconds:
            said = _counted(done, total, words)
            self._show(f"{self.title}: {said}, {now - self.began:.0f} s")

    def _show(self, text: str) -> None:
        self.told = time.perf_counter()
        self.handle.update({"text/plain": text}, raw=True)


def watching() -> Silent:
    """What shows the progress of a run that was begun from Python: in a notebook a cell's line,
    on a terminal its own; nothing elsewhere."""
    ipython: Any = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython else None
    if hasattr(shell, "kernel"):
        return NotebookLine()
    return Terminal() if sys.stderr is not None and sys.stderr.isatty() else Silent()


def _titled(name: str, place: str) -> str:
    return f"{place}: {name}" if place else name


def _counted(done: int, total: int | None, words: str) -> str:
    return words if total is None else f"{count(done)} of {count(total)}, {words}"
