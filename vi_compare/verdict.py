"""Words for what the metrics say: a table of rules, and how to read it.

A rule looks at one metric and crosses when a value is beyond its threshold. Where a
metric has many values (margins, modes), the worst one counts, and the error it has to
beat is widened for having been picked (Bonferroni). A crossing that is within its
error reads "between Faithful and ..."; but where draws enough to tell are within error
of perfect, it is what chance gives the worst of many, and is not mentioned.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from statistics import NormalDist

from vi_compare import formatting
from vi_compare.estimate import ALL, About, Estimate, MetricKind
from vi_compare.psis import khat_limit

Scores = Mapping[str, Mapping[str, Estimate]]
Abouts = Mapping[str, About]


class Status(StrEnum):
    """How a fit ended."""

    CONVERGED = "converged"
    NOT_CONVERGED = "not converged"
    UNKNOWN = "not known to have converged"
    FAILED = "failed"
    GIVEN = "given"


class Word(StrEnum):
    """The vocabulary of verdicts."""

    FAITHFUL = "Faithful"
    UNVERIFIED = "Unverified"
    CANNOT_TELL = "Cannot tell yet"
    FAILED = "Failed"
    NOT_CONVERGED = "Not converged"
    MISSES_MODES = "Misses modes"
    WRONG_MODE_WEIGHTS = "Wrong mode weights"
    TOO_SURE = "Too sure"
    TOO_DIFFUSE = "Too diffuse"
    SHIFTED = "Shifted"
    LOSES_DEPENDENCE = "Loses dependence"
    LIGHT_TAILS = "Light tails"
    HEAVY_TAILS = "Heavy tails"
    MISSES_MASS = "Misses mass"
    INVENTS_MASS = "Invents mass"


class Concern(StrEnum):
    """What a reference can be doubted for."""

    CHAINS_DISAGREE = "its chains disagree"
    FEW_DRAWS = "few effective draws"
    DIVERGENCES = "divergent transitions"
    STEIN = "Stein's identities fail"
    MISSED_MODE = "it may miss a mode"
    APPROXIMATION = "draws of an approximation"
    REFUTED = "a bound of a fit refutes it"
    STILL_MOVING = "its chains still move"
    UNKNOWN_SHARES = "the mass of its regions is not known"


# What more of the same draws would mend.
FOR_LONGER = frozenset({Concern.STILL_MOVING, Concern.UNKNOWN_SHARES, Concern.FEW_DRAWS})


class Purpose(StrEnum):
    """What a fit can be good for, the most demanding first."""

    INTERVALS = "intervals of single margins"
    BULK = "the bulk"
    SHAPES = "the shape of each mode"
    MODES = "describing the modes it has"
    CAUTIOUS = "cautious intervals"
    POINTS = "point estimates"
    ROUGH = "rough location"
    PROPOSAL = "a proposal for importance sampling if k̂ allows it"


class Step(StrEnum):
    """What to do about a fault."""

    COMPONENTS = "add components or restarts"
    FORWARD = "fit by forward KL, which pays for all that is missed"
    FLEXIBLE = "use a more flexible guide (correlated, more components, a flow)"
    CORRELATED = "use a guide with full covariance (mvn) or a mixture"
    HEAVIER = "use a heavier-tailed guide"
    ONE_EACH = "use a guide with one component per mode"
    LONGER = "run longer or from more starts; if it stays, the guide is too rigid"
    REWEIGHT = "reweight the draws if k̂ allows it"


class Outcome(StrEnum):
    """What became of a published figure."""

    REPRODUCED = "reproduced"
    NOT_REPRODUCED = "not reproduced"
    NO_ERROR = "error of ours unknown"
    NOT_AVAILABLE = "not available"


@dataclass(frozen=True)
class Doubt:
    """Why the reference that a verdict rests on should not be believed.

    Attributes:
        kind: what it is doubted for; two runs have the same doubt when the kinds agree.
        words: the same in a clause with numbers.
    """

    kind: Concern
    words: str


@dataclass(frozen=True)
class Drifts:
    """What chains say that began at a fit's own draws.

    Attributes:
        moved: the fit against where they are now; where that is not perfect, the fit is off,
            and it is not yet known by how much.
        least: of what a reference that is not finished says alike, the smaller fault: a bound.
        chains, iterations: how many there were, and how far they went.
    """

    moved: Scores
    least: Scores
    chains: int
    iterations: int


@dataclass(frozen=True)
class Rule:
    """One row of the table.

    Attributes:
        word: the verdict.
        metric: whose values are looked at; of a signed one, how far from perfect they are.
        side: +1 crosses above the threshold, −1 below.
        threshold: in the metric's unit; None for where the metric's mark turns to ✗.
        reason: a sentence with {value}, {label}, {percent}, {crossed} and {tried} to
            fill in: the worst value, and how many of how many are beyond the threshold.
        spoils: what the fit is no longer good for.
        steps: what to do.
        level: a crossing is clear when it is beyond the threshold by this two-sided level of
            its error.
        imperfect: a crossing within its error is mentioned when, at this level, the value is
            not perfect either: one perfect margin in a hundred has an extreme tail half empty
            by chance.
        least_draws: fewer draws decide nothing.
        vague_draws: with fewer only what is clear counts.
        named: a fault in words, with {value} and {percent}, for the least that would be named.
        residual: headline only when no other rule has crossed.
        mild: whether the fit errs on the wide side, which is the lesser fault.
    """

    word: Word
    metric: str
    side: int
    threshold: float | None
    reason: str
    spoils: frozenset[Purpose]
    steps: tuple[Step, ...]
    level: float = 0.05
    imperfect: float = 0.01
    least_draws: int = 400
    vague_draws: int = 400
    named: str = ""
    residual: bool = False
    mild: bool = False

    def limit(self, about: About) -> float:
        """The threshold, for a metric that is described by `about`."""
        limit = about.edge(self.side) if self.threshold is None else self.threshold
        assert limit is not None, f"{self.metric} has neither a threshold nor a limit of its marks"
        return limit

    def condition(self, about: About) -> str:
        """ "width_ratio < 0.9"."""
        return f"{self.metric} {'>' if self.side > 0 else '<'} {self.limit(about):g}"


# A tail of 0.5 % needs more than a whole distribution: of 2,000 draws it holds ten, and
# the worst of many tails seems half empty more often than not.
TAIL_DRAWS = 10_000


def _spoils(*but: Purpose) -> frozenset[Purpose]:
    """Every purpose but these."""
    return frozenset(Purpose) - frozenset(but)


RULES = (
    Rule(
        Word.MISSES_MODES, "mode_coverage", -1, None,
        "It drops {crossed} of {tried} modes: {label} has {percent} of the target's mass there.",
        _spoils(Purpose.MODES),
        (Step.COMPONENTS, Step.FORWARD),
    ),
    Rule(
        Word.WRONG_MODE_WEIGHTS, "mode_distance", 1, 0.1,
        "The masses of the modes are off: Jensen-Shannon distance {value}.",
        _spoils(Purpose.SHAPES, Purpose.MODES, Purpose.PROPOSAL),
        (Step.REWEIGHT, Step.ONE_EACH),
    ),
    Rule(
        Word.TOO_SURE, "width_ratio", -1, 0.9,
        "90 % intervals of {label} are too narrow: {value} times the target's.",
        _spoils(Purpose.SHAPES, Purpose.MODES, Purpose.POINTS, Purpose.ROUGH),
        (Step.FLEXIBLE, Step.FORWARD),
        named="90 % intervals {value} times as long as the target's",
    ),
    Rule(
        Word.TOO_DIFFUSE, "width_ratio", 1, 1.1,
        "90 % intervals of {label} are too wide: {value} times the target's.",
        _spoils(Purpose.CAUTIOUS, Purpose.POINTS, Purpose.ROUGH, Purpose.PROPOSAL),
        (Step.FLEXIBLE, Step.REWEIGHT),
        named="{value} times as long",
        mild=True,
    ),
    Rule(
        Word.SHIFTED, "mean_shift", 1, 0.2,
        "The mean of {label} is off by {value} sd.",
        _spoils(Purpose.SHAPES, Purpose.MODES, Purpose.ROUGH, Purpose.PROPOSAL),
        (Step.LONGER,),
        named="a mean {value} sd off",
    ),
    Rule(
        Word.LOSES_DEPENDENCE, "correlation", 1, None,
        "The rank correlation of {label} is off by {value}.",
        frozenset({Purpose.BULK, Purpose.SHAPES}),
        (Step.CORRELATED,),
    ),
    Rule(
        Word.LIGHT_TAILS, "tail_mass", -1, None,
        "It gives {label} {value} times the mass that the target has there.",
        frozenset({Purpose.PROPOSAL}),
        (Step.HEAVIER, Step.FORWARD),
        vague_draws=TAIL_DRAWS,
    ),
    Rule(
        Word.HEAVY_TAILS, "tail_mass", 1, None,
        "It gives {label} {value} times the mass that the target has there.",
        frozenset(),
        (Step.FLEXIBLE, Step.REWEIGHT),
        vague_draws=TAIL_DRAWS, mild=True,
    ),
    Rule(
        Word.MISSES_MASS, "missed_mass", 1, None,
        "{percent} of the target lies where the fit has almost nothing (1 % is perfect).",
        _spoils(Purpose.MODES, Purpose.POINTS, Purpose.ROUGH),
        (Step.FLEXIBLE, Step.FORWARD),
        named="{percent} of the target where the fit has almost nothing",
        residual=True,
    ),
    Rule(
        Word.INVENTS_MASS, "invented_mass", 1, None,
        "{percent} of the fit lies where the target has almost nothing (1 % is perfect).",
        _spoils(Purpose.CAUTIOUS, Purpose.POINTS, Purpose.ROUGH, Purpose.PROPOSAL),
        (Step.REWEIGHT, Step.FLEXIBLE),
        residual=True, mild=True,
    ),
)  # fmt: skip


@dataclass(frozen=True)
class Verdict:
    """What a fit is worth, in words.

    Attributes:
        word: the headline.
        also: the other words that apply.
        reasons: sentences with the numbers, one per word; what is near a threshold, in one.
        use_for, next_step: what it is still good for, what to do.
        reweightable: whether importance weights can repair it.
        vague: whether the headline lies within error of a threshold, "between Faithful and ...".
        mild: whether every fault found errs on the wide side.
    """

    word: str
    also: tuple[str, ...]
    reasons: tuple[str, ...]
    use_for: str
    next_step: str
    reweightable: bool = False
    vague: bool = False
    mild: bool = False


def judge(
    status: Status,
    message: str,
    scores: Scores,
    doubts: tuple[Doubt, ...] = (),
    rules: tuple[Rule, ...] = RULES,
    caution: str = "",
    remedy: str = "",
    left: Estimate | None = None,
    drift: Drifts | None = None,
    *,
    abouts: Abouts,
) -> Verdict:
    """The verdict on a fit that ended with `status`, from its metrics alone.

    Args:
        message: how it ended, in words.
        doubts: about the reference that the metrics rest on; with any, no word is stronger
            than Unverified, or Cannot tell yet where longer chains would tell.
        caution: about the loss that it was fitted by; it is said and changes nothing.
        remedy: what to do about a fit that did not converge.
        left: nats that it could still gain, where that is known.
        drift: of chains from its own draws, where a reference that is finished is not there.
        abouts: {metric: what its numbers mean} of all in `scores`.
    """
    if status == Status.FAILED:
        advice = "mend what is named, or start closer with init_loc_fn"
        return Verdict(Word.FAILED, (), (f"It failed: {message}.",), "nothing", advice)
    found = _from_scores(scores, rules, abouts)
    if doubts:
        found = _doubted(found, doubts)
    if drift and {doubt.kind for doubt in doubts} <= FOR_LONGER:
        found = _drifted(found, drift, rules, abouts)
    if status == Status.NOT_CONVERGED:
        minor = _is_minor(left, scores) and found.word not in (Word.FAITHFUL, Word.UNVERIFIED)
        found = _late(found, message) if minor else _stopped(found, message, remedy)
    reasons = found.reasons
    if status == Status.UNKNOWN:
        reasons += (f"It is not known to have converged: {message}.",)
    if caution:
        reasons += (_sentence(caution),)
    dropped = Word.MISSES_MODES in (found.word, *found.also)
    reweightable = _reweightable(scores) and not dropped and not doubts
    return replace(found, reasons=reasons, reweightable=reweightable)


def _from_scores(scores: Scores, rules: tuple[Rule, ...], abouts: Abouts) -> Verdict:
    """The verdict on a fit that converged, against a reference that is believed."""
    # What is only left over counts for the headline if nothing above explains it.
    crossed = sorted(
        (c for rule in rules if (c := _cross(rule, scores, abouts))), key=lambda c: c.rule.residual
    )
    clear = [c for c in crossed if c.clear]
    vague = [c for c in crossed if not c.clear]
    few = _too_few_draws(scores, rules, abouts, {c.rule.word for c in clear})
    if not crossed:
        if _has_reference(scores) and not _measured(scores, rules):
            return _nothing_measured()
        found = _nothing_found(scores, abouts)
        return replace(found, reasons=(*found.reasons, *_power(scores, rules, abouts), *few))
    reasons = [c.sentence for c in clear or vague]
    if clear and vague:
        near = formatting.listed(list(dict.fromkeys(c.rule.word for c in vague)))
        reasons.append(f"Within error of the threshold: {near}.")
    reasons += few
    words: list[str] = [c.rule.word for c in clear]
    if not words:
        words = [f"between {Word.FAITHFUL} and {vague[0].rule.word}"]
    broken = [c.rule for c in clear or vague]
    return Verdict(
        words[0],
        tuple(words[1:]),
        tuple(reasons),
        _left(broken),
        _to_do(broken),
        vague=not clear,
        mild=bool(clear) and all(c.rule.mild for c in clear),
    )


def _left(broken: list[Rule], most: int = 3) -> str:
    """What no broken rule spoils: the `most` demanding purposes."""
    spoilt = frozenset[Purpose]().union(*(rule.spoils for rule in broken))
    if not {rule.word for rule in broken} & {Word.MISSES_MODES, Word.WRONG_MODE_WEIGHTS}:
        spoilt |= {Purpose.MODES, Purpose.SHAPES}  # with a single mode there is nothing to tell
    left = [purpose for purpose in Purpose if purpose not in spoilt]
    # What is good for the first is good for the second.
    implied = {
        Purpose.INTERVALS: Purpose.CAUTIOUS, Purpose.SHAPES: Purpose.MODES,
        Purpose.POINTS: Purpose.ROUGH,
    }  # fmt: skip
    said = {weaker for stronger, weaker in implied.items() if stronger in left}
    told = [str(purpose) for purpose in left if purpose not in said]
    return formatting.listed(told[:most]) or "nothing as it is"


def _to_do(broken: list[Rule], most: int = 2) -> str:
    """The steps that help against the most of the faults."""
    votes = Counter(step for rule in broken for step in rule.steps)
    return ", or ".join(step for step, _ in votes.most_common(most))


def _too_few_draws(
    scores: Scores, rules: tuple[Rule, ...], abouts: Abouts, said: set[Word]
) -> list[str]:
    """A sentence for each number of draws that some words would need and do not have."""
    lacking: dict[tuple[str, int, int], list[str]] = {}
    for rule in rules:
        by = [e for e in scores.get(rule.metric, {}).values() if e.n and e.value is not None]
        # A single mode, for example, cannot be missed by any number of draws.
        if rule.word in said or all(e.value == abouts[rule.metric].perfect for e in by):
            continue
        have = max(e.n or 0 for e in by)
        if have < rule.least_draws:
            lacking.setdefault(("judge", have, rule.least_draws), []).append(rule.word)
        elif have < rule.vague_draws:
            lacking.setdefault(("settle", have, rule.vague_draws), []).append(rule.word)
    return [
        f"Too few draws to {verb} {formatting.listed(words)}: {formatting.count(have)}, where "
        f"{formatting.count(need)} are needed."
        for (verb, have, need), words in lacking.items()
    ]


def _nothing_found(scores: Scores, abouts: Abouts) -> Verdict:
    reasons = tuple(_summary(scores, abouts))
    if _has_reference(scores):
        use_for, step = "its draws can be used directly", "nothing needs doing"
        joint = scores.get("total_variation", {}).get(ALL)
        near = abouts["total_variation"].near or 1.0
        if joint and joint.value is not None and joint.value > near:
            # In many dimensions margins and pairs can be right and all of them together not.
            use_for = "its margins and pairs can be used directly, not all of them together"
            step = "for events that involve many margins: reweight the draws if k̂ allows it"
        return Verdict(Word.FAITHFUL, (), reasons, use_for, step)
    use_for = "exploration, until draws of the target confirm it"
    step = "give exact(key, n) or a reference, so that missed mass can be seen"
    width = scores.get("width_ratio", {}).get(ALL)
    if width is not None and width.value is not None:  # it was compared, without log q
        use_for = "its margins and pairs, which are right"
        step = "give the guide with its parameters: without log q, missed mass cannot be seen"
    return Verdict(Word.UNVERIFIED, (), reasons, use_for, step)


def _measured(scores: Scores, rules: tuple[Rule, ...]) -> bool:
    """Whether any rule has a number to look at."""
    by = (scores.get(rule.metric, {}) for rule in rules)
    return any(e.value is not None for labels in by for e in labels.values())


def _nothing_measured() -> Verdict:
    """What is judged by is constant, or not a number at some draws: no fault can be found there,
    which is not the same as none."""
    why = "Nothing that it is judged by could be measured: it is constant, or not always a number."
    step = "judge by what is a number at every draw, and varies"
    return Verdict(Word.UNVERIFIED, (), (why,), "nothing that it is judged for", step)


def _doubted(found: Verdict, doubts: tuple[Doubt, ...]) -> Verdict:
    """No word about a fit is stronger than the reference that it rests on."""
    others = (w for w in (found.word, *found.also) if w not in (Word.FAITHFUL, Word.UNVERIFIED))
    why = "; ".join(doubt.words for doubt in doubts)
    kinds = {doubt.kind for doubt in doubts}
    word, state = Word.UNVERIFIED, "in doubt"
    until = "a reference that can be believed confirms it"
    step = "mend the reference first: longer chains, another parameterisation, exact draws"
    if Concern.STILL_MOVING in kinds and kinds <= FOR_LONGER:
        word, state, until = Word.CANNOT_TELL, "not there yet", "its chains have settled"
        step = "let the chains run longer (--effort thorough), or try another parameterisation"
    reasons = (f"The reference is {state}: {why}.", *found.reasons)
    return Verdict(word, tuple(others), reasons, f"exploration, until {until}", step)


def _drifted(found: Verdict, drift: Drifts, rules: tuple[Rule, ...], abouts: Abouts) -> Verdict:
    """What two populations of chains say alike is sure before either has settled; what those from
    the fit's own draws say alone is told and changes no word."""
    crossed = [c for rule in rules if (c := _cross(rule, drift.least, abouts)) and c.clear]
    went = _went(drift, abouts)
    if not crossed:
        first, *rest = found.reasons or ("",)
        return replace(found, reasons=tuple(filter(None, (first, *went, *rest))))
    broken = [c.rule for c in crossed]
    word, *also = (rule.word for rule in broken)
    return Verdict(
        word,
        (*also, Word.CANNOT_TELL),
        (*(c.sentence for c in crossed), *went, *found.reasons[:1]),
        _left(broken),
        _to_do(broken),
        mild=all(rule.mild for rule in broken),
    )


def _went(drift: Drifts, abouts: Abouts, level: float = 0.05) -> list[str]:
    """How far the chains went, in the margin where that is furthest."""
    by = {k: e for k, e in drift.moved.get("width_ratio", {}).items() if k != ALL and e.value}
    if not by:
        return []
    about = abouts["width_ratio"]
    label = max(by, key=lambda k: about.badness(by[k].value or 1.0))
    value, error = by[label].value or 1.0, by[label].standard_error or 0.0
    start = f"{drift.chains} chains that began at its own draws"
    iterations = f"{drift.iterations} iterations"
    if abs(value - 1) <= _quantile(level, len(by)) * error:
        return [f"{start} did not go from there by more than chance, in {iterations}."]
    ratio = formatting.with_error(1 / value, error / value**2)
    return [f"{start} went furthest in {label}: {ratio} times as long, after {iterations}."]


def _stopped(found: Verdict, message: str, remedy: str) -> Verdict:
    """What the metrics say of a fit that did not converge comes second."""
    return Verdict(
        Word.NOT_CONVERGED,
        (found.word, *found.also),
        (_sentence(message), *found.reasons),
        "nothing yet",
        remedy or "run it longer, or from more starts",
    )


def _late(found: Verdict, message: str) -> Verdict:
    """What is left to gain comes second where it could change next to nothing."""
    return replace(
        found, also=(*found.also, Word.NOT_CONVERGED), reasons=(*found.reasons, _sentence(message))
    )


def _is_minor(left: Estimate | None, scores: Scores, share: float = 0.1) -> bool:
    """Whether going on would gain less than `share` of what the fit is off by."""
    off = [scores.get(metric, {}).get(ALL) for metric in ("forward_kl", "reverse_kl")]
    known = [e.value for e in off if e is not None and e.value is not None]
    if left is None or left.value is None or not known:
        return False
    return left.value + 2 * (left.standard_error or 0.0) < share * min(known)


def _sentence(clause: str) -> str:
    return f"{clause[:1].upper()}{clause[1:]}."


@dataclass(frozen=True)
class _Crossing:
    rule: Rule
    label: str
    estimate: Estimate
    clear: bool
    crossed: int
    tried: int

    @property
    def sentence(self) -> str:
        e = self.estimate
        value, error = e.value or 0.0, e.standard_error
        text = self.rule.reason.format(
            value=formatting.with_error(value, error, bound=e.bound),
            percent=formatting.percent(value, error, e.bound),
            label=self.label,
            crossed=formatting.words(self.crossed),
            tried=formatting.words(self.tried),
        )
        return text if self.clear else f"{text} That is within error of the threshold."


def _usable(rule: Rule, scores: Scores) -> dict[str, Estimate]:
    """The values of the rule's metric, one for each margin, that rest on draws enough."""
    by = dict(scores.get(rule.metric, {}))
    if len(by) > 1:
        by.pop(ALL)
    return {k: e for k, e in by.items() if e.value is not None and (e.n or 0) >= rule.least_draws}


def _cross(rule: Rule, scores: Scores, abouts: Abouts) -> _Crossing | None:
    """The worst value beyond the rule's threshold, of those that are clearly beyond if any."""
    usable = _usable(rule, scores)
    if not usable:
        return None
    draws = lambda e: e.n or 0
    about = abouts[rule.metric]
    limit = rule.limit(about)
    # A signed error (a shift, a lost correlation) counts by its size.
    signed = about.kind is MetricKind.SIGNED
    perfect = 0.0 if signed else about.perfect or 0.0
    size = lambda e: about.badness(e.value) if signed else e.value
    beyond = lambda e: rule.side * (size(e) - limit)
    counts = lambda e: e.floor is None or not about.above_floor or e.value > e.floor
    found = {k: e for k, e in usable.items() if beyond(e) > 0 and counts(e)}
    tried = sum(e.worst_of for e in usable.values())
    error = lambda e: e.standard_error or 0.0
    clear = {k: e for k, e in found.items() if beyond(e) > _quantile(rule.level, tried) * error(e)}

    def chance(e):
        """Perfect but for chance, where one value by itself could be told from the threshold."""
        decides = _quantile(rule.level) * error(e) < abs(limit - perfect)
        return decides and abs(size(e) - perfect) <= _quantile(rule.imperfect, tried) * error(e)

    near = {k: e for k, e in found.items() if draws(e) >= rule.vague_draws and not chance(e)}
    counted = clear or near
    if not counted:
        return None
    label = max(counted, key=lambda k: beyond(counted[k]))
    name = "the whole" if label == ALL else label
    return _Crossing(rule, name, counted[label], bool(clear), len(counted), len(usable))


def _power(
    scores: Scores, rules: tuple[Rule, ...], abouts: Abouts, power: float = 0.95
) -> list[str]:
    """What would have been named, had it been there: of a fault of this size in one margin, or a
    larger one, an estimate is clearly beyond the threshold with this probability."""
    parts = []
    for rule in rules:
        usable = _usable(rule, scores)
        if not (rule.named and usable):
            continue
        tried = sum(e.worst_of for e in usable.values())
        error = max(e.standard_error or 0.0 for e in usable.values())
        sure = _quantile(rule.level, tried) + NormalDist().inv_cdf(power)
        least = max(0.0, rule.limit(abouts[rule.metric]) + rule.side * sure * error)
        numbers = {"value": formatting.plain(least, 2), "percent": f"{100 * least:.2g} %"}
        parts.append(rule.named.format(**numbers))
    cases = f"{100 * power:g} of 100 cases"
    return [f"Would be named in {cases}: {formatting.listed(parts)}."] if parts else []


def _quantile(level: float, tried: int = 1) -> float:
    """Standard errors that the worst of `tried` passes by chance at this two-sided level."""
    return NormalDist().inv_cdf(1 - level / (2 * max(1, tried)))


def _has_reference(scores: Scores) -> bool:
    missed = scores.get("missed_mass", {}).get(ALL)
    return missed is not None and missed.value is not None


def _summary(scores: Scores, abouts: Abouts) -> list[str]:
    """The numbers behind a fit that nothing is held against."""
    parts = []
    for metric in ("forward_kl", "reverse_kl", "elbo", "khat"):
        e = scores.get(metric, {}).get(ALL)
        if e is not None and e.value is not None:
            about = abouts[metric]
            number = formatting.with_error(e.value, e.standard_error, about.suffix, e.bound)
            parts.append(f"{about.name} {number}")
    text = ", ".join(parts)
    return [f"{text[0].upper()}{text[1:]}."] if text else []


def _reweightable(scores: Scores) -> bool:
    khat = scores.get("khat", {}).get(ALL)
    return (
        khat is not None
        and khat.value is not None
        and khat.value < khat_limit(khat.n or 0)
        and _has_reference(scores)
    )
