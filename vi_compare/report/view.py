"""The Comparison as the report reads it: fits with their looks, modes with names."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from vi_compare.comparison import Comparison
from vi_compare.evidence import ALL, margins
from vi_compare.report import numbers
from vi_compare.report.palette import Style

# Overlays of more curves than this cannot be read.
MOST_IN_ONE = 6
# A basin of which the fit holds less than this share of the target's mass is missed.
COVERED = 0.1


@dataclass(frozen=True)
class Reading:
    """A number as stored: value and error, or None and the reason.

    Attributes:
        value, error: the estimate and one standard error.
        n: draws behind it.
        reason: why there is no value.
    """

    value: float | None
    error: float | None = None
    n: int | None = None
    reason: str = ""


@dataclass(frozen=True)
class Mode:
    """One basin of the target.

    Attributes:
        number: from 1, the largest first.
        name: "mode 1", with where it is when that is one number.
        place: (d,) over u.
        mass: share of the target's draws.
        fits: {fit: share of its draws}.
    """

    number: int
    name: str
    place: np.ndarray
    mass: float
    fits: dict[str, float]


@dataclass(frozen=True)
class FitView:
    """One fit, and how it looks.

    Attributes:
        data: its entry in ``results["fits"]``.
        node: its group in the draws, or None.
        style: colour, dashes, marker.
    """

    data: dict[str, Any]
    node: Any
    style: Style

    @property
    def name(self) -> str:
        return self.data["name"]

    @property
    def css(self) -> str:
        return self.style.css

    @property
    def word(self) -> str:
        return self.data["verdict"]["word"]

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
    def failed(self) -> bool:
        return self.data["status"] == "failed"

    def reading(self, metric: str, label: str = ALL) -> Reading:
        """A metric, or one label of it; with a reason where it does not exist."""
        entry = self.data.get("metrics", {}).get(metric)
        if entry is None:
            why = f"the fit failed: {self.data['message']}" if self.failed else "it was not measured"
            return Reading(None, reason=why)
        part = entry if label == ALL else entry.get("by", {}).get(label)
        if part is None:
            return Reading(None, reason=entry.get("reason") or f"not measured for {label}")
        # Parts that say nothing themselves share the headline's reason.
        reason = part.get("reason", "") or entry.get("reason", "") if part["value"] is None else ""
        return Reading(part["value"], part["standard_error"], entry.get("n"), reason)

    def array(self, group: str, name: str) -> np.ndarray | None:
        """(n,) numbers stored with the fit's draws, e.g. ("sample_stats", "log_q")."""
        return _array(self.node, group, name)

    @cached_property
    def margins(self) -> dict[str, np.ndarray]:
        """{margin: (n,)}; empty for a fit without draws."""
        return _margins(self.node)


@dataclass(frozen=True)
class View:
    """All that sections read from.

    Attributes:
        results, draws: of the comparison.
        fits: in the study's order.
    """

    results: dict[str, Any]
    draws: Any
    fits: tuple[FitView, ...]

    @classmethod
    def of(cls, comparison: Comparison) -> View:
        results, draws = comparison.results, comparison.draws
        fits = (
            FitView(data, _node(draws, data["group"]), Style(i))
            for i, data in enumerate(results["fits"])
        )
        return cls(results, draws, tuple(fits))

    @property
    def target(self) -> dict[str, Any]:
        return self.results["target"]

    @property
    def drawn(self) -> tuple[FitView, ...]:
        """Fits for overlays: at most six, one of each verdict before a second of any."""
        alive = [f for f in self.fits if f.margins]
        seen: dict[str, int] = {}
        rank = {}
        for fit in alive:
            rank[fit.css] = seen.setdefault(fit.word, 0)
            seen[fit.word] += 1
        chosen = sorted(alive, key=lambda f: (rank[f.css], f.style.index))[:MOST_IN_ONE]
        return tuple(sorted(chosen, key=lambda f: f.style.index))

    @property
    def left_out(self) -> str:
        """A sentence about fits that overlays leave out; "" when there are none."""
        left = sum(bool(f.margins) for f in self.fits) - len(self.drawn)
        return f"{numbers.words(left).capitalize()} more stand in the tables only." if left else ""

    @property
    def has_reference(self) -> bool:
        return self.target["reference"]["source"] != "none"

    @cached_property
    def reference(self) -> dict[str, np.ndarray]:
        """{margin: (n,)} of the target's draws; empty without a reference."""
        return _margins(_node(self.draws, "reference"))

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
        name, support = next(iter(self.target["supports"].items()), ("u", ""))
        return name if support.startswith("Real") else f"u (unconstrained {name})"

    @cached_property
    def modes(self) -> tuple[Mode, ...]:
        found = self.target["modes"]["found"] or []
        places = [np.asarray(m["location"], dtype=float) for m in found]
        names = _mode_names(places, self.axis)
        return tuple(
            Mode(i + 1, names[i], places[i], m["target"], m["fits"]) for i, m in enumerate(found)
        )

    def missed(self, fit: FitView) -> list[Mode]:
        """The modes that the fit leaves out, the largest first."""
        share = {m.number: fit.reading("mode_coverage", f"mode {m.number}").value for m in self.modes}
        return [m for m in self.modes if share[m.number] is not None and share[m.number] < COVERED]


def _mode_names(places: list[np.ndarray], axis: str) -> list[str]:
    if not places or places[0].size != 1:
        return [f"mode {i + 1}" for i in range(len(places))]
    where = np.array([float(p[0]) for p in places])
    scale = max(np.ptp(where), 1e-12)
    # Two digits are enough to tell them apart; −6e-8 among modes 4 apart is 0.
    rounded = [0.0 if abs(w) < 1e-3 * scale else w for w in where]
    sides = {2: ("left", "right"), 3: ("left", "middle", "right")}.get(len(places))
    rank = np.argsort(np.argsort(where))
    short = "u" if axis.startswith("u (") else axis
    return [
        (f"{sides[rank[i]]} mode" if sides else f"mode {i + 1}")
        + f" ({short} ≈ {numbers.plain(w, 2)})"
        for i, w in enumerate(rounded)
    ]


def _node(draws: Any, path: str) -> Any:
    try:
        return draws[path]
    except KeyError:
        return None


def _array(node: Any, group: str, name: str) -> np.ndarray | None:
    if node is None or group not in node.children or name not in node[group].data_vars:
        return None
    return np.asarray(node[group][name].values, dtype=float).reshape(-1)


def _margins(node: Any) -> dict[str, np.ndarray]:
    if node is None or "posterior" not in node.children:
        return {}
    posterior = node["posterior"]
    values = {str(k): np.asarray(v.values)[0] for k, v in posterior.data_vars.items()}
    return margins(values)
