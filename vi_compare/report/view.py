"""The Comparison as the report reads it: fits with their looks, modes with names."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from vi_compare import formatting
from vi_compare.comparison import Comparison
from vi_compare.comparison.kept import drawn
from vi_compare.errors import InputError
from vi_compare.estimate import ALL, About, entries, margins
from vi_compare.report import marks
from vi_compare.report.palette import Style
from vi_compare.verdict import Doubt, Status


def short(name: str, most: int = 24) -> str:
    """A name of at most `most` characters, for where there is little room; of ``site[entry]`` the
    entry is kept as far as can be, its ends first: it tells the margins of one site apart."""
    # Without Unicode's signs that change the direction of the text after them.
    name = re.sub("[\u200e\u200f\u202a-\u202e\u2066-\u2069]", "", name)
    if len(name) <= most:
        return name
    site, _, entry = name.partition("[")
    if not entry.endswith("]"):
        return f"{name[: most - 1]}…"
    least = min(len(site), 3)
    if (room := most - least - 2) < len(entry):  # an ellipsis and the bracket
        entry = f"{entry[: -(-room // 2) - 1]}…{entry[-(room // 2) :]}"
    room = most - len(entry) - 1
    return f"{site if len(site) <= room else f'{site[: room - 1]}…'}[{entry}"


def shown(name: str, most: int = 80) -> str:
    """A name as sentences and tables show it: 80 characters are a line or two."""
    return short(name, most)


@dataclass(frozen=True)
class Reading:
    """A number as stored: value and error, or None and the reason.

    Attributes:
        value, error: the estimate and one standard error.
        n: draws behind it.
        reason: why there is no value.
        about: what the number means; None for one that is no metric's.
        bound: "least" or "most" where the truth lies beyond by more than the error tells.
    """

    value: float | None
    error: float | None = None
    n: int | None = None
    reason: str = ""
    about: About | None = None
    bound: str = ""

    @property
    def mark(self) -> str:
        """ "good", "near", "bad" or ""."""
        return marks.mark(self.about, self.value) if self.about else ""

    @property
    def percent(self) -> bool:
        """Whether it is shown in per cent."""
        return self.about is not None and self.about.percent

    def in_bits(self) -> Reading:
        """The same number, which is in nats, in bits."""
        if self.value is None:
            return self
        error = None if self.error is None else self.error / formatting.LOG_2
        return replace(self, value=self.value / formatting.LOG_2, error=error)


@dataclass(frozen=True)
class Mode:
    """One basin of the target.

    Attributes:
        number: from 1, the largest first.
        name: "the mode at x = 0", or "mode 1" where that would be too long.
        place: the same without its article, for headings.
        location: (d,) over u.
        mass: share of the target's draws.
        n: draws of each that were assigned; 0 where it was not recorded.
        fits: {fit: share of its draws}.
    """

    number: int
    name: str
    place: str
    location: np.ndarray
    mass: float
    n: int
    fits: dict[str, float]

    @property
    def short(self) -> str:
        """The place, as far as there is room."""
        return shown(self.place)


@dataclass(frozen=True, eq=False)
class FitView:
    """One fit, and how it looks.

    Attributes:
        data: its entry in ``results["fits"]``.
        node: its group in the draws, or None.
        style: colour, dashes, marker.
        abouts: {metric: what its numbers mean}.
    """

    data: dict[str, Any]
    node: Any
    style: Style
    abouts: Mapping[str, About]

    @property
    def key(self) -> str:
        """The name as it is stored."""
        return self.data["name"]

    @property
    def name(self) -> str:
        """The name as it is shown: no longer than a line or two."""
        return shown(self.key)

    @property
    def css(self) -> str:
        return self.style.css

    @property
    def word(self) -> str:
        return self.data["verdict"]["word"]

    @property
    def reasons(self) -> list[str]:
        """Why the verdict is what it is: sentences, the first of the headline word."""
        return self.data["verdict"]["reasons"]

    @property
    def words(self) -> list[str]:
        verdict = self.data["verdict"]
        return [verdict["word"], *verdict.get("also", [])]

    @property
    def about(self) -> str:
        """What the name does not say."""
        parts = (self.data["guide"], self.data["divergence"], self.data["solver"])
        return " · ".join(p for p in parts if p and p not in self.name)

    @property
    def trained_on(self) -> str | None:
        """The divergence that was made small; None where parameters were given, or where the
        solver does something else (a mode and its curvature)."""
        own = self.data["settings"].get("optimises_divergence", True)
        return self.data["divergence"] if own else None

    @property
    def given(self) -> bool:
        """Whether nothing was fitted."""
        return self.data["status"] == Status.GIVEN

    @property
    def seconds(self) -> float:
        """All that fitting took; a solver need not tell what of it was compiling."""
        cost = self.data["cost"]
        return (cost["compile_seconds"] or 0.0) + (cost["run_seconds"] or 0.0)

    @property
    def failed(self) -> bool:
        return self.data["status"] == Status.FAILED

    def reading(self, metric: str, label: str = ALL) -> Reading:
        """A metric, or one label of it; with a reason where it does not exist."""
        entry, about = self.data.get("metrics", {}).get(metric), self.abouts.get(metric)
        if entry is None:
            why = (
                f"the fit failed: {self.data['message']}" if self.failed else "it was not measured"
            )
            return Reading(None, reason=why, about=about)
        part = entry if label == ALL else entry.get("by", {}).get(label)
        if part is None:
            why = entry.get("reason") or f"not measured for {label}"
            return Reading(None, reason=why, about=about)
        # Parts that say nothing themselves share the headline's reason.
        reason = part.get("reason", "") or entry.get("reason", "") if part["value"] is None else ""
        bound = part.get("bound", "")
        return Reading(part["value"], part["standard_error"], entry.get("n"), reason, about, bound)

    def narrowed(self, metric: str, labels: Collection[str]) -> FitView:
        """The same fit where a metric of margins is that of some of them, the worst first; without
        a value where none of them was measured: another margin's says nothing of them."""
        entry, about = self.data.get("metrics", {}).get(metric), self.abouts.get(metric)
        if entry is None or about is None:
            return self
        by = [(k, self.reading(metric, k).value) for k in entry.get("by", {}) if k in labels]
        known = {k: about.badness(value) for k, value in by if value is not None}
        none = {"value": None, "standard_error": None, "reason": "none of them was measured"}
        worst = entry["by"][max(known, key=lambda k: known[k])] if known else none
        metrics = {**self.data["metrics"], metric: {**entry, **worst}}
        return replace(self, data={**self.data, "metrics": metrics})

    def array(self, group: str, name: str) -> np.ndarray | None:
        """(n,) numbers stored with the fit's draws, e.g. ("sample_stats", "log_q")."""
        return _array(self.node, group, name)

    @property
    def way(self) -> Any:
        """Quantiles of every margin as chains went on from the fit's draws, an
        ``xarray.Dataset``; None where none did."""
        return _way(self.node, "drift")

    @cached_property
    def margins(self) -> dict[str, np.ndarray]:
        """{entry: (n,)}, also those that never vary; empty for a fit without draws."""
        return entries(*drawn(self.node))


@dataclass(frozen=True)
class View:
    """All that sections read from.

    Attributes:
        results, draws: of the comparison.
        fits: in the study's order.
        abouts: {metric: what its numbers mean}, of every metric that was measured.
        path: what ``vi-compare path`` found, as stored, or None.
    """

    results: dict[str, Any]
    draws: Any
    fits: tuple[FitView, ...]
    abouts: Mapping[str, About]
    path: dict[str, Any] | None = None

    @classmethod
    def of(cls, comparison: Comparison) -> View:
        """
        Raises:
            InputError: when the results do not say what their metrics mean.
        """
        results, draws = comparison.results, comparison.draws
        try:
            abouts = {name: About.of(data) for name, data in results["metrics"].items()}
        except (AttributeError, LookupError, TypeError, ValueError):
            raise InputError(
                "results.json is of another version: it does not say what its metrics mean; "
                "run it again"
            ) from None
        fits = (
            FitView(data, _node(draws, data["group"]), Style(i), abouts)
            for i, data in enumerate(results["fits"])
        )
        return cls(results, draws, tuple(fits), abouts, comparison.path)

    def fit(self, key: str) -> FitView:
        """The fit that is stored under this name."""
        return next(fit for fit in self.fits if fit.key == key)

    def called(self, quantity: str) -> str:
        """The name of a metric, or of another quantity that a figure was published of."""
        about = self.abouts.get(quantity)
        return about.name if about else quantity.replace("_", " ")

    @property
    def counted_from(self) -> float:
        """The smallest share of the target with which a mode counts."""
        return self.abouts["mode_coverage"].counts_from

    @property
    def target(self) -> dict[str, Any]:
        return self.results["target"]

    @property
    def name(self) -> str:
        """The target's, as it is shown."""
        return shown(self.target["name"])

    @property
    def drawn(self) -> tuple[FitView, ...]:
        """Fits for overlays, one of each verdict before a second of any; of more than six
        curves in one figure none can be read."""
        alive = [f for f in self.fits if f.margins]
        seen: dict[str, int] = {}
        rank = {}
        for fit in alive:
            rank[fit.css] = seen.setdefault(fit.word, 0)
            seen[fit.word] += 1
        chosen = sorted(alive, key=lambda f: (rank[f.css], f.style.index))[:6]
        return tuple(sorted(chosen, key=lambda f: f.style.index))

    @property
    def left_out(self) -> str:
        """A sentence about fits that overlays leave out; "" when there are none."""
        left = sum(bool(f.margins) for f in self.fits) - len(self.drawn)
        return (
            f"{formatting.words(left).capitalize()} more stand in the tables only." if left else ""
        )

    @property
    def has_reference(self) -> bool:
        return self.target["reference"]["source"] != "none"

    @property
    def doubts(self) -> list[Doubt]:
        """Why the reference should not be believed; empty when nothing is held against it."""
        return [Doubt(**entry) for entry in self.target["reference"].get("doubts", [])]

    @property
    def confirms(self) -> bool:
        """Whether there is a reference that can be believed: without one nothing gets a ✓."""
        return self.has_reference and not self.doubts

    @cached_property
    def reference(self) -> dict[str, np.ndarray]:
        """{margin: (n,)} of the target's draws; empty without a reference."""
        return margins(*drawn(_node(self.draws, "reference")))

    def predicted(self, group: str, site: str) -> Any:
        """An observed site in one of ArviZ's groups, an ``xarray.DataArray``: of the reference, or
        without one of the first fit that has it; None where none has."""
        nodes = [_node(self.draws, "reference"), *(fit.node for fit in self.fits)]
        for node in (node for node in nodes if node is not None and group in node.children):
            held = node[group].data_vars.values()
            return next((a for a in held if a.attrs.get("site", a.name) == site), None)
        return None

    @property
    def judged(self) -> list[str]:
        """Sites and quantities that verdicts rest on; empty for all."""
        return self.target.get("judged", [])

    @cached_property
    def judged_entries(self) -> dict[str, frozenset[str]]:
        """{name: what those of its entries are called that are margins}; without the names that
        have none: a constant, or what is no number at some draws."""
        values, coords = drawn(_node(self.draws, "reference"))
        found = {name: frozenset(margins({name: values[name]}, coords)) for name in self.judged}
        return {name: labels for name, labels in found.items() if labels}

    @property
    def judged_names(self) -> str:
        """Those that were measured, in a sentence."""
        return formatting.listed([shown(name) for name in self.judged_entries])

    def narrowed(self, metric: str) -> View:
        """The same view where a metric of margins is that of the judged ones, if any are named."""
        labels = frozenset[str]().union(*self.judged_entries.values())
        fits = tuple(fit.narrowed(metric, labels) for fit in self.fits)
        return replace(self, fits=fits) if self.judged else self

    def way(self, side: str) -> Any:
        """The same of the reference's chains from "inside" or "outside"; None where it has no
        such chains."""
        return _way(_node(self.draws, "reference"), side)

    @property
    def labels(self) -> list[str]:
        """The margins: entries that vary under the target, or where nobody knows, a fit."""
        alive = [f.margins for f in self.fits if f.margins]
        varying = lambda label: any(np.ptp(by[label]) for by in alive)
        return list(self.reference) or [x for x in (alive[0] if alive else ()) if varying(x)]

    def at_reference(self, name: str) -> np.ndarray | None:
        """(n,) "log_p" at the target's draws."""
        return _array(_node(self.draws, "reference"), "sample_stats", name)

    @property
    def log_z(self) -> float | None:
        known = self.target["log_normalizer"]
        return None if known is None else known["value"]

    @property
    def axis(self) -> str:
        """What a one-dimensional u is called: the site itself where it is the whole line."""
        name, real = next(iter(self.target["real"].items()), ("u", True))
        return name if real else f"u (unconstrained {name})"

    @cached_property
    def modes(self) -> tuple[Mode, ...]:
        found = self.target["modes"]["found"] or []
        return tuple(
            Mode(
                i + 1,
                m["name"],
                m["place"],
                np.asarray(m["location"], dtype=float),
                m["target"],
                m.get("n") or 0,
                m["fits"],
            )
            for i, m in enumerate(found)
        )

    def missed(self, fit: FitView) -> list[Mode]:
        """The modes that the fit leaves out, the largest first."""
        return [m for m in self.modes if fit.reading("mode_coverage", m.name).mark == "bad"]

    def position(self, mode: Mode) -> str:
        """What is to be said of it among the others: "the middle and largest one"."""
        words = []
        if self.target["dim"] == 1 and len(self.modes) > 2:
            rank = sorted(float(m.location[0]) for m in self.modes).index(float(mode.location[0]))
            words += ["middle"] if 2 * rank + 1 == len(self.modes) else []
        # Larger than the next by more than chance, or not called largest.
        if mode.number == 1 and len(self.modes) > 1 and mode.n:
            gap, noise = mode.mass - self.modes[1].mass, 3 * (2 * mode.mass / mode.n) ** 0.5
            words += ["largest"] if gap > noise else []
        return f"the {' and '.join(words)} one" if words else ""


def _node(draws: Any, path: str) -> Any:
    try:
        return draws[path]
    except KeyError:
        return None


def _way(node: Any, group: str) -> Any:
    return None if node is None or group not in node.children else node[group].to_dataset()


def _array(node: Any, group: str, name: str) -> np.ndarray | None:
    if node is None or group not in node.children or name not in node[group].data_vars:
        return None
    return np.asarray(node[group][name].values, dtype=float).reshape(-1)
