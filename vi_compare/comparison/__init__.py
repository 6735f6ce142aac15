"""Comparison: what came out of a study, saved and loaded as plain data."""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar
from urllib.parse import quote

from vi_compare.comparison.kept import KeptFit
from vi_compare.comparison.reading import read_draws, read_path, read_results
from vi_compare.comparison.writing import CHECKSUM, checksum, put_in_place, reserve
from vi_compare.comparison.writing import DRAWS as DRAWS
from vi_compare.comparison.writing import PAGE as PAGE
from vi_compare.comparison.writing import PATH as PATH
from vi_compare.comparison.writing import RESULTS as RESULTS
from vi_compare.comparison.writing import require_room as require_room
from vi_compare.comparison.writing import writable as writable
from vi_compare.comparison.writing import write_page as write_page
from vi_compare.errors import InputError, nearest
from vi_compare.estimate import ALL, Estimate

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr


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
        live: {fit: it, with its guide}, of a comparison that was made in this session, or that a
            study has loaded (`Study.load`).
        beside: what a notebook shows below the verdicts, as HTML. The report, which stands above
            this module, adds its own here.
    """

    results: dict[str, Any]
    draws: xr.DataTree
    path: dict[str, Any] | None = None
    pages: list[Path] = field(default_factory=list, repr=False, compare=False)
    live: Mapping[str, KeptFit] = field(default_factory=dict, repr=False, compare=False)
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

    def fit(self, name: str) -> Any:
        """One fit, to go on with: its draws (`KeptFit`) and, where the comparison was made in this
        session or loaded by its study, its guide too (``run.fitted.Fitted``: `sample`,
        `log_prob`, `predictive`, `warm_start`).

        Raises:
            InputError: when there is none of that name.
        """
        entry = next((fit for fit in self.fits if fit["name"] == name), None)
        if entry is None:
            known = [fit["name"] for fit in self.fits]
            raise InputError(f"there is no fit {name!r}; {nearest(name, known)}")
        return self.live.get(name) or KeptFit(name, self._node(entry["group"]), entry)

    def _node(self, path: str) -> Any:
        return self.draws[path]

    @property
    def reference(self) -> KeptFit:
        """Draws of the target that fits were measured against.

        Raises:
            InputError: when there were none.
        """
        if "reference" not in self.draws.children:
            raise InputError("there are no draws of the target: the run had no reference")
        return KeptFit("reference", self._node("reference"), {})

    def to_frame(self) -> pd.DataFrame:
        """Every number that was measured, a row each: fit, metric, label ("all" for the headline),
        value, standard_error, unit, floor, n, bound, reason."""
        import pandas as pd

        rows = [
            {"fit": fit, "metric": metric, "label": label, **asdict(estimate)}
            for (fit, metric, label), estimate in self.scores.items()
        ]
        return pd.DataFrame(rows).drop(columns="worst_of")

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
            # A half more for what HDF5 keeps beside the numbers, and at least a megabyte.
            reserve(scratch, int(1.5 * sum(node.nbytes for node in self.draws.subtree)) + 10**6)
            self.draws.to_netcdf(scratch / DRAWS, engine="h5netcdf")
            (scratch / CHECKSUM).write_text(checksum(scratch / DRAWS), encoding="utf-8")
            put_in_place(scratch, folder, stale=(PAGE, PATH))
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
        pages = [folder / PAGE] if (folder / PAGE).exists() else []
        draws, path = read_draws(folder, results["run"]), read_path(folder, results["run"])
        return cls(results, draws, path, pages)


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
