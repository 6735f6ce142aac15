"""Comparison: what came out of a study, saved and loaded as plain data."""

from __future__ import annotations

import hashlib
import json
import math
import os
import signal
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar
from urllib.parse import quote

from vi_compare.errors import InputError
from vi_compare.estimate import ALL, Estimate

if TYPE_CHECKING:
    import xarray as xr

RESULTS, DRAWS, PAGE, PATH = "results.json", "fits.nc", "report.html", "path.json"


@dataclass(frozen=True)
class Comparison:
    """Everything measured, and nothing else: reports are made from this alone.

    Attributes:
        results: plain data, as in ``results.json`` (schema 1, ``results.schema.json``).
        draws: an ``xarray.DataTree``: ``reference``, ``fits/<group>`` with ``posterior``
            (chain, draw) for ArviZ, ``sample_stats`` (log_p, log_q), ``unconstrained``
            (u), ``optimisation`` (losses), and ``curves`` for one-dimensional targets.
            ``unconstrained`` and ``at_reference`` hold all chains, one after another.
        path: what ``vi-compare path`` found for the same target, as in ``path.json``, or None.
        pages: where its page was written last; empty where it was not.
        beside: what a notebook shows below the verdicts, as HTML. The report, which stands above
            this module, adds its own here.
    """

    results: dict[str, Any]
    draws: xr.DataTree
    path: dict[str, Any] | None = None
    pages: list[Path] = field(default_factory=list, repr=False, compare=False)
    beside: ClassVar[list[Callable[[Comparison], str]]] = []

    def __repr__(self) -> str:
        words = "; ".join(f"{fit}: {word}" for fit, word in self.verdicts.items())
        return f"<Comparison of {self.results['target']['name']}: {words}>"

    def _repr_html_(self) -> str:
        """For notebooks: the verdicts as a table, which fit to use, and a link to the page."""
        rows = "".join(
            f"<tr><td>{escape(fit['name'])}</td><td><b>{escape(fit['verdict']['word'])}</b></td>"
            f"<td>{escape(' '.join(fit['verdict']['reasons'][:2]))}</td>"
            f"<td>{escape(fit['verdict']['use_for'])}</td></tr>"
            for fit in self.fits
        )
        heads = "".join(f"<th>{head}</th>" for head in ("fit", "verdict", "why", "use it for"))
        name = escape(self.results["target"]["name"])
        table = f"<table><caption>{name}</caption><tr>{heads}</tr>{rows}</table>"
        return "".join([table, *(html(self) for html in self.beside), self._link()])

    def _link(self) -> str:
        if not self.pages:
            how = "comparison.save(folder, vi_compare.report.render(comparison))"
            return f"<p>The whole page: <code>{how}</code></p>"
        # Relative, which is how a notebook's server finds it.
        page = quote(os.path.relpath(self.pages[-1]))
        return f'<p><a href="{escape(page)}" target="_blank">The whole page</a></p>'

    @property
    def fits(self) -> list[dict[str, Any]]:
        return self.results["fits"]

    @property
    def verdicts(self) -> dict[str, str]:
        """{fit: the headline word}"""
        return {fit["name"]: fit["verdict"]["word"] for fit in self.fits}

    @property
    def scores(self) -> dict[tuple[str, str, str], Estimate]:
        """{(fit, metric, label): Estimate}; the label "all" is the headline."""
        out = {}
        for fit in self.fits:
            for metric, entry in fit["metrics"].items():
                head = {k: v for k, v in entry.items() if k != "by"}
                out[fit["name"], metric, ALL] = Estimate(**head)
                for label, part in entry.get("by", {}).items():
                    out[fit["name"], metric, label] = Estimate(
                        **(head | {"floor": None, "reason": ""} | part)
                    )
        return out

    def save(self, folder: str | Path, page: str | None = None) -> Path:
        """Write the run folder; an interrupted save leaves the old files, or none.

        Args:
            folder: where; made if need be. Other files in it are left alone.
            page: the report, from ``vi_compare.report.render(comparison)``. Without it a
                page that is there is removed, because it would show other numbers; so is
                a path.json where `path` is None.

        Raises:
            InputError: when the folder cannot be written.
        """
        folder = Path(folder)
        with writable(folder) as scratch:
            (scratch / RESULTS).write_text(_json(self.results), encoding="utf-8")
            if self.path is not None:
                (scratch / PATH).write_text(_json(self.path), encoding="utf-8")
            if page is not None:
                (scratch / PAGE).write_text(page, encoding="utf-8")
            self.draws.to_netcdf(scratch / DRAWS, engine="h5netcdf")
            folder.mkdir(parents=True, exist_ok=True)
            with _undisturbed():
                for stale in (PAGE, PATH):
                    (folder / stale).unlink(missing_ok=True)
                for made in scratch.iterdir():
                    made.replace(folder / made.name)
        self.pages[:] = [folder / PAGE] if page is not None else []
        return folder / PAGE

    @classmethod
    def load(cls, folder: str | Path) -> Comparison:
        """Read a run folder.

        Raises:
            InputError: when it is none, or its files are not of one run.
        """
        folder = Path(folder)
        results = read_results(folder)
        import xarray as xr

        try:
            with xr.open_datatree(folder / DRAWS, engine="h5netcdf") as tree:
                draws = tree.load()
        except (OSError, ValueError) as error:
            raise InputError(f"{folder / DRAWS} cannot be read ({error}); run it again") from None
        if draws.attrs.get("run") != results["run"]:
            raise InputError(f"{RESULTS} and {DRAWS} in {folder} are not of one run; run it again")
        pages = [folder / PAGE] if (folder / PAGE).exists() else []
        return cls(results, draws, _read_path(folder, results["run"]), pages)


def write_page(folder: Path, page: str, name: str = PAGE) -> Path:
    """Replace one page of a folder, whole or not at all, and return its path.

    Raises:
        InputError: when the folder cannot be written.
    """
    with writable(folder) as scratch:
        (scratch / name).write_text(page, encoding="utf-8")
        return (scratch / name).replace(folder / name)


def read_results(folder: Path) -> dict[str, Any]:
    """results.json of a run folder.

    Raises:
        InputError: when there is none, or it is not of schema 1.
    """
    path = folder / RESULTS
    try:
        results = json.loads(path.read_text(encoding="utf-8"))
    except OSError:
        raise InputError(
            f"{folder} holds no {RESULTS}; give a folder that `vi-compare run` has written"
        ) from None
    except ValueError:
        raise InputError(f"{path} is not valid JSON; run it again") from None
    if not isinstance(results, dict) or results.get("schema") != 1:
        raise InputError(f"{path} is not of schema 1; run it again with this version")
    return results


def _read_path(folder: Path, run: str) -> dict[str, Any] | None:
    """path.json of the same run, where there is one."""
    try:
        path = json.loads((folder / PATH).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return path if isinstance(path, dict) and path.get("run") == run else None


def _json(value: dict[str, Any]) -> str:
    return json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def fingerprint(results: dict[str, Any]) -> str:
    """Hash of all results but the times: equal for two runs of one command."""
    text = json.dumps(without_times(results), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def without_times(value: Any) -> Any:
    """The same results without what a clock said, which differs between two runs."""
    times = ("compile_seconds", "run_seconds", "created")
    if isinstance(value, dict):
        return {k: without_times(v) for k, v in value.items() if k not in times}
    if isinstance(value, list):
        return [without_times(v) for v in value]
    return value


def number(x: Any) -> float | None:
    """A finite number, or None: JSON has no NaN, and neither have we."""
    x = None if x is None else float(x)
    return x if x is not None and math.isfinite(x) else None


@contextmanager
def writable(folder: Path) -> Iterator[Path]:
    """A scratch folder on the same disk as `folder`, removed afterwards.

    Raises:
        InputError: when nothing can be written there.
    """
    if folder.exists() and not folder.is_dir():
        raise InputError(f"the output folder {folder} is a file; give another --out")
    anchor = folder
    while not anchor.exists():
        anchor = anchor.parent
    try:
        with tempfile.TemporaryDirectory(prefix=".vi-compare-", dir=anchor) as scratch:
            if not os.access(anchor, os.W_OK):
                raise PermissionError(13, "Permission denied")
            yield Path(scratch)
    except OSError as error:
        raise InputError(
            f"the output folder {folder} cannot be written ({error.strerror}); give another --out"
        ) from None


@contextmanager
def _undisturbed() -> Iterator[None]:
    """Ctrl-C waits until the files are in place together."""
    import threading

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    caught: list[int] = []
    old = signal.signal(signal.SIGINT, lambda number, frame: caught.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, old)
        if caught:
            raise KeyboardInterrupt
