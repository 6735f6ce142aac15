"""What changed between two runs of one target beyond error: results in, a record out.

Two estimates a and b of one number are compared as z = (b − a) ÷ √(se_a² + se_b²). A
change is a |z| above the normal quantile of `LEVEL`, two-sided, divided by the number of
tests (Bonferroni): two runs between which nothing changed are told apart once in a
hundred times, however many numbers they hold. Where there is no error to divide by, a
change is what rounding cannot explain.

What that rests on:

- The errors of the two runs are taken to be independent. Runs of the same seed share
  draws, so that their errors are alike and cancel: z is then too small, never too large.
- They are errors of measuring a fit, not of fitting it. Another seed makes another fit,
  and what training leaves to chance (another optimum, other training draws) counts as a
  change, as it should: the numbers of the fit did change. Forward fits, trained on draws,
  are rarely the same for two seeds where they are nearly perfect.
- A number that one run has and the other has not counts as a change, with the reason. It
  may be chance where k̂ decides whether there is one.
- Verdicts are words without an error. One may turn because a number lies at its
  threshold, and a note says so when none of the fit's numbers changed.

Needs no JAX: the command must answer at once.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from statistics import NormalDist
from typing import Any

import numpy as np

from vi_compare.comparison import number
from vi_compare.errors import InputError
from vi_compare.estimate import ALL, About, MetricKind, labels
from vi_compare.formatting import count, listed, with_error
from vi_compare.verdict import Status

# Two runs between which nothing changed are told apart so often.
LEVEL = 0.01
ABSENT = "–"

Key = tuple[str, str]  # fit ("" of what all fits share), what


@dataclass(frozen=True)
class Change:
    """Something that is not the same in the two runs.

    Attributes:
        fit: whose it is; "" of what all fits share.
        what: "verdict", "rule Too sure", or the name of a metric.
        before, after: as texts.
        label: which margin, mode or pair of the metric; "" for its headline.
        z: the difference in standard errors; None where there is no error.
        reason: why a number is missing in one of the runs.
    """

    fit: str
    what: str
    before: str
    after: str
    label: str = ""
    z: float | None = None
    reason: str = ""


@dataclass(frozen=True)
class Difference:
    """All that differs between run A and run B.

    Attributes:
        only: names of the fits in A only, and in B only.
        words: verdicts, statuses, published figures, rules, the reference.
        numbers: those that changed beyond error, of each metric the clearest first.
        costs, context: what differs but is no change: evaluations; versions, settings.
        notes: sentences on what could not be compared, or only with care.
        compared: how many numbers are in both runs.
        tests: for how many comparisons `limit` is corrected: where a metric lists its
            worst margins alone, as many as they can have been picked from.
        limit: standard errors that a change must exceed.
    """

    only: tuple[tuple[str, ...], tuple[str, ...]]
    words: tuple[Change, ...]
    numbers: tuple[Change, ...]
    costs: tuple[Change, ...]
    context: tuple[Change, ...]
    notes: tuple[str, ...]
    compared: int
    tests: int
    limit: float

    @property
    def changed(self) -> bool:
        return bool(self.words or self.numbers or any(self.only))

    @property
    def sentence(self) -> str:
        """The result in one sentence."""
        if not self.changed:
            return f"Nothing changed beyond error: {_several(self.compared, 'number')} compared."
        verdicts = len(_verdicts(self.words))
        others = len(self.words) - verdicts + sum(map(len, self.only))
        more = f"; {_several(others, 'other fact')} changed" if others else ""
        return (
            f"{len(self.numbers)} of {_several(self.compared, 'number')} changed beyond error; "
            f"verdicts of {_several(verdicts, 'fit')} changed{more}."
        )


def difference(
    a: Mapping[str, Any], b: Mapping[str, Any], names: tuple[str, str] = ("A", "B")
) -> Difference:
    """Compare two runs of one target, results.json of each as plain data.

    Args:
        names: what to call them in an error.

    Raises:
        InputError: when results are incomplete, or of different targets.
    """
    runs = _facts(a, names[0]), _facts(b, names[1])
    _refuse_other_target(*runs, names)
    before, after = runs
    after, renamed = _with_entries_of(before, after)
    shared = {"", *(before.fits.keys() & after.fits.keys())}
    pairs, notes = _pairs(before, _with_modes_of(before, after), shared)
    tests = sum(pair.tries for pair in pairs)
    limit = NormalDist().inv_cdf(1 - LEVEL / (2 * max(1, tests)))
    rounding = max(before.rounding, after.rounding)
    numbers = [pair.change() for pair in pairs if pair.differs(limit, rounding)]
    words = _changes(before.words, after.words, shared)
    if before.context.get(("", "seed")) != after.context.get(("", "seed")):
        notes.append(
            "The seeds differ: the errors are of measuring a fit, what training left to "
            "chance comes on top."
        )
    return Difference(
        only=(_missing(before.fits, after.fits), _missing(after.fits, before.fits)),
        words=words,
        numbers=tuple(_clearest_first(numbers)),
        costs=_changes(before.costs, after.costs, shared),
        context=_changes(before.context, after.context, shared),
        notes=(*renamed, *notes, *_unexplained(words, numbers)),
        compared=len(pairs),
        tests=tests,
        limit=limit,
    )


# --- one run ---------------------------------------------------------------------------


@dataclass(frozen=True)
class _Reading:
    """A number as it was saved; `value` is None where there is none, for a reason; `about`
    says what it means, and is None for one that is no metric's; `bound` as in an `Estimate`."""

    value: float | None
    error: float
    unit: str = ""
    reason: str = ""
    about: About | None = None
    bound: str = ""

    def __str__(self) -> str:
        if self.value is None:
            return ABSENT
        return with_error(self.value, self.error, self.unit, self.bound)

    def badness(self) -> _Reading:
        """How bad it is: of the worst of two margins, signs and sides mean nothing."""
        if self.value is None or self.about is None:
            return self
        # The badness of a ratio is on a log scale, and so is its error.
        scale = max(self.value, self.about.least) if self.about.kind is MetricKind.RATIO else 1.0
        return replace(self, value=self.about.badness(self.value), error=self.error / scale)


@dataclass(frozen=True)
class _Facts:
    """What is compared of one run, as flat tables.

    Attributes:
        fits: {name: status}.
        target: what must agree.
        margins: how many scalar coordinates the sites have.
        entries: {site or quantity: labels of its entries}.
        modes: {name: location (d,)}.
        numbers: {(fit, metric): {label: reading}}.
        words, costs, context: {(fit, what): text}.
    """

    fits: dict[str, str]
    target: dict[str, str]
    margins: int
    entries: dict[str, list[str]]
    modes: dict[str, np.ndarray]
    numbers: dict[Key, dict[str, _Reading]]
    words: dict[Key, str]
    costs: dict[Key, str]
    context: dict[Key, str]
    rounding: float


def _facts(results: Mapping[str, Any], name: str) -> _Facts:
    try:
        return _read(results)
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError):
        raise InputError(f"results.json of {name} is incomplete; run it again") from None


def _read(results: Mapping[str, Any]) -> _Facts:
    target, fits = results["target"], results["fits"]
    shapes = {site: tuple(shape) for site, shape in target["sites"].items()}
    return _Facts(
        fits={fit["name"]: str(fit["status"]) for fit in fits},
        target={
            "name": str(target["name"]),
            "sites": ", ".join(f"{site} {shape}" for site, shape in sorted(shapes.items())),
            "dimension": str(target["dim"]),
        },
        margins=sum(math.prod(shape) for shape in shapes.values()),
        entries=_entries(target),
        modes={
            mode["name"]: np.asarray(mode["location"], dtype=float).reshape(target["dim"])
            for mode in target["modes"]["found"] or []
        },
        numbers=_numbers(results),
        words=_words(results),
        costs={
            (fit["name"], what.replace("_", " ")): _counted(fit["cost"][what])
            for fit in fits
            for what in ("log_density_evaluations", "gradient_evaluations")
        },
        context=_context(results),
        rounding=_rounding(results["environment"]["precision"]),
    )


def _entries(target: Mapping[str, Any]) -> dict[str, list[str]]:
    coords, dims = target.get("coords", {}), target.get("dims", {})
    axes = lambda name: tuple(coords.get(dim) for dim in dims.get(name, ()))
    shapes = target["sites"] | target.get("quantities", {})
    return {name: labels(name, tuple(shape), axes(name)) for name, shape in shapes.items()}


def _rounding(precision: str) -> float:
    """Relative to the larger of a number and 1: what another order of summation can do, to a
    distance of nearly 0, too, which is the root of a divergence that is rounding alone."""
    return {"float64": 1e-6, "float32": 1e-3}[precision]


def _counted(evaluations: int | None) -> str:
    return "not recorded" if evaluations is None else str(evaluations)


def _numbers(results: Mapping[str, Any]) -> dict[Key, dict[str, _Reading]]:
    """log Z, the metrics of every fit, and its parameters where their errors are known:
    only of those that published figures are compared with."""
    target = results["target"]
    abouts = {name: About.of(about) for name, about in results["metrics"].items()}
    log_z = target["log_normalizer"] or {"value": None, "reason": target["log_normalizer_reason"]}
    out = {("", "log Z"): {ALL: _reading(log_z, "nats")}}
    for fit in results["fits"]:
        for metric, entry in fit["metrics"].items():
            parts = {ALL: entry, **entry.get("by", {})}
            about = abouts[metric]
            out[fit["name"], metric] = {
                label: _reading(part, about.suffix, about) for label, part in parts.items()
            }
    for row in results["published"]:
        entry = {"value": row["ours"], "standard_error": row["standard_error"]}
        out.setdefault(
            (row["fit"], row["quantity"]), {ALL: _reading(entry | {"reason": row["result"]})}
        )
    return out


def _reading(entry: Mapping[str, Any], unit: str = "", about: About | None = None) -> _Reading:
    value, error = number(entry["value"]), number(entry.get("standard_error"))
    reason = entry.get("reason", "") if value is None else ""
    return _Reading(value, error or 0.0, unit, reason, about, entry.get("bound", ""))


def _words(results: Mapping[str, Any]) -> dict[Key, str]:
    reference = results["target"]["reference"]
    out = {("", "reference"): str(reference["source"])}
    # The numbers in a doubt are another run's chance; what is doubted is the fact.
    for doubt in reference.get("doubts", []):
        out["", f"reference: {doubt['kind']}"] = "in doubt"
    for rule in results["rules"]:
        key = ("", f"rule {rule['word']}")
        out[key] = " and ".join(filter(None, (out.get(key), rule["when"])))
    for fit in results["fits"]:
        verdict = fit["verdict"]
        also = f" ({', '.join(verdict['also'])})" if verdict.get("also") else ""
        out[fit["name"], "verdict"] = f"{verdict['word']}{also}"
        out[fit["name"], "status"] = str(fit["status"])
    for row in results["published"]:
        out[row["fit"], f"published {row['quantity']} = {row['published']}"] = str(row["result"])
    return out


def _context(results: Mapping[str, Any]) -> dict[Key, str]:
    """Versions, device, settings, seed, command, flat; not when it was."""
    environment = dict(results["environment"])
    environment.pop("created", None)
    nested = [environment.pop("versions"), environment.pop("settings")]
    flat = {k: v for part in (environment, *nested) for k, v in part.items()}
    reference = results["target"]["reference"]
    flat |= {"draws of the reference": reference["draws"]}
    flat |= {f"reference's {k}": v for k, v in reference.get("settings", {}).items()}
    labels = {(fit["name"], "label"): str(fit["label"]) for fit in results["fits"]}
    return {("", name): str(value) for name, value in flat.items()} | labels


def _refuse_other_target(a: _Facts, b: _Facts, names: tuple[str, str]) -> None:
    other = [
        f"{what} {a.target[what]} and {b.target[what]}"
        for what in a.target
        if a.target[what] != b.target[what]
    ]
    if other:
        raise InputError(
            f"{listed(list(names))} are of different targets: {'; '.join(other)}; "
            f"compare two runs of one script"
        )


# --- two runs --------------------------------------------------------------------------


@dataclass(frozen=True)
class _Pair:
    """One number in both runs.

    Attributes:
        tries: how many it stands for, of which it was picked as the worst.
        by_badness: the worst of each run, not of the same margin: how bad it is counts.
    """

    key: Key
    label: str
    a: _Reading
    b: _Reading
    tries: int = 1
    by_badness: bool = False

    def gap(self) -> tuple[float, float] | None:
        """b − a and its standard error; None where one is missing."""
        a, b = (r.badness() if self.by_badness else r for r in (self.a, self.b))
        if a.value is None or b.value is None:
            return None
        return b.value - a.value, math.hypot(a.error, b.error)

    def differs(self, limit: float, rounding: float) -> bool:
        """Beyond both the error and what rounding can do, or missing on one side."""
        if (found := self.gap()) is None:
            return True
        scale = max(1.0, abs(self.a.value or 0.0), abs(self.b.value or 0.0))
        return abs(found[0]) > max(limit * found[1], rounding * scale)

    def change(self) -> Change:
        label = "the worst" if self.by_badness else "" if self.label == ALL else self.label
        before, after = str(self.a), str(self.b)
        if (found := self.gap()) is None:
            reason = self.a.reason or self.b.reason
            return Change(*self.key, before, after, label, reason=reason)
        if before == after:  # exact numbers that differ behind the usual digits
            before, after = f"{self.a.value:.12g}", f"{self.b.value:.12g}"
        return Change(*self.key, before, after, label, found[0] / found[1] if found[1] else None)


def _pairs(a: _Facts, b: _Facts, shared: set[str]) -> tuple[list[_Pair], list[str]]:
    """Every number that at least one run has of what both have; and notes."""
    pairs: list[_Pair] = []
    unlike: dict[str, None] = {}  # metrics, in their order
    for key in _keys(a.numbers, b.numbers, shared):
        fit, metric = key
        # A fit that failed has no numbers, and its status says so.
        if fit and (a.fits[fit] == Status.FAILED) != (b.fits[fit] == Status.FAILED):
            continue
        absent = {ALL: _Reading(None, 0.0, reason="not measured")}
        one, two = (run.numbers.get(key, absent) for run in (a, b))
        pairs += _of_metric(key, one, two, a.margins)
        if len(one) > 1 and len(two) > 1 and one.keys() != two.keys():
            unlike[metric] = None
    note = (
        f"The runs do not list the same margins or modes of {listed([*unlike])}: what both "
        f"list is compared, and how bad the worst of each is."
    )
    return pairs, [note] if unlike else []


def _of_metric(
    key: Key, one: Mapping[str, _Reading], two: Mapping[str, _Reading], margins: int
) -> list[_Pair]:
    """Its numbers, label by label.

    The headline repeats the worst label. Where both runs have the same labels, comparing
    it too would only set the worst margin of one run against another margin of the other.
    """
    alike = one.keys() == two.keys()
    both = [label for label in one if label in two]
    kept = [label for label in both if label != ALL] if alike and len(one) > 1 else both
    listed_ones = max(len(one), len(two)) - 1
    # Fewer than there are margins: the worst few of all of them, or of all their pairs.
    picked_from = math.comb(margins, 2) if 0 < listed_ones < margins else 1
    tries = max(1, math.ceil(picked_from / len(kept)))
    pairs = (_Pair(key, k, one[k], two[k], tries, by_badness=k == ALL and not alike) for k in kept)
    return [pair for pair in pairs if pair.a.value is not None or pair.b.value is not None]


def _with_modes_of(a: _Facts, b: _Facts) -> _Facts:
    """Run B with the names that run A gives to its modes.

    "mode 2" is the second in the order of its share, which chance can turn about.
    """
    if not a.modes or not b.modes:
        return b
    same = _same_modes(a.modes, b.modes)
    names = {name: same.get(name, f"{name} of the second run") for name in b.modes}
    return _renamed(b, names)


def _with_entries_of(a: _Facts, b: _Facts) -> tuple[_Facts, list[str]]:
    """Run B with the labels that run A has for the entries of its sites, and notes.

    The same names in another order are the same entries; other names are other words for them.
    """
    names: dict[str, str] = {}
    renamed = []
    for site, own in b.entries.items():
        there = a.entries.get(site, [])
        if len(own) == len(there) and set(own) != set(there):
            names |= dict(zip(own, there, strict=True))
            renamed.append(site)
    note = (
        f"Entries of {listed(renamed)} have other names in the second run (its coords): they are "
        f"compared in their order, under the names of the first."
    )
    return _renamed(b, names), [note] if renamed else []


def _renamed(run: _Facts, names: Mapping[str, str]) -> _Facts:
    """The same with other labels."""
    rename = lambda by: {names.get(label, label): reading for label, reading in by.items()}
    return replace(run, numbers={key: rename(by) for key, by in run.numbers.items()})


def _same_modes(
    a: Mapping[str, np.ndarray], b: Mapping[str, np.ndarray], share: float = 0.25
) -> dict[str, str]:
    """{name in B: name in A} of the modes that are in one place: closer to each other than
    this share of the way to the next."""
    here, there = (np.stack(list(modes.values())) for modes in (a, b))
    between = _distances(here, there)
    nearest = np.argmin(between, axis=1)
    mutual = np.argmin(between, axis=0)[nearest] == np.arange(len(here))
    apart = np.minimum(_to_the_next(here), _to_the_next(there)[nearest])
    close = between[np.arange(len(here)), nearest] <= share * apart
    old, new = list(a), list(b)
    return {new[nearest[i]]: old[i] for i in np.flatnonzero(mutual & close)}


def _distances(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """(m, n) between the rows of x (m, d) and y (n, d)."""
    return np.stack([np.linalg.norm(y - row, axis=1) for row in x])


def _to_the_next(x: np.ndarray) -> np.ndarray:
    """(m,) from each row to the nearest other one; ∞ where there is no other."""
    between = _distances(x, x)
    np.fill_diagonal(between, np.inf)
    return between.min(axis=1)


def _changes(a: dict[Key, str], b: dict[Key, str], shared: set[str]) -> tuple[Change, ...]:
    texts = ((key, a.get(key, ABSENT), b.get(key, ABSENT)) for key in _keys(a, b, shared))
    return tuple(Change(*key, old, new) for key, old, new in texts if old != new)


def _keys(a: Mapping[Key, Any], b: Mapping[Key, Any], shared: set[str]) -> list[Key]:
    """Of both runs, in their order, about what both have."""
    return [key for key in dict.fromkeys([*a, *b]) if key[0] in shared]


def _clearest_first(changes: list[Change]) -> list[Change]:
    """Metrics stay in their order; within one, what has no z stands first."""
    place: dict[Key, int] = {}
    for change in changes:
        place.setdefault((change.fit, change.what), len(place))
    size = lambda c: math.inf if c.z is None else abs(c.z)
    return sorted(changes, key=lambda c: (place[c.fit, c.what], -size(c)))


def _unexplained(words: Iterable[Change], numbers: Iterable[Change]) -> Iterator[str]:
    """Fits whose verdict alone changed, with the rules and the reference as they were."""
    explained = {change.fit for change in (*words, *numbers) if change.what != "verdict"}
    for fit in _verdicts(words):
        if not explained & {fit, ""}:
            yield f"{fit}: none of its numbers changed beyond error; its verdict is a close call."


def _verdicts(words: Iterable[Change]) -> list[str]:
    return [change.fit for change in words if change.what == "verdict"]


def _missing(names: Iterable[str], others: Iterable[str]) -> tuple[str, ...]:
    held = set(others)
    return tuple(name for name in names if name not in held)


def _several(n: int, noun: str) -> str:
    return f"{count(n)} {noun}{'' if n == 1 else 's'}"
