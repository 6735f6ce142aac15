"""Words for what the metrics say: a table of rules, and how to read it.

A rule looks at one metric and crosses when a value is beyond its threshold. Where a
metric has many values (margins, modes), the worst one counts, and the error it has to
beat is widened for having been picked (Bonferroni). A crossing that is within its
error reads "between Faithful and ..."; but where draws enough to tell are within error
of perfect, it is what chance gives the worst of many, and is not mentioned.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from statistics import NormalDist

from vi_compare import formatting
from vi_compare.estimate import ALL, About, Estimate, MetricKind
from vi_compare.psis import khat_limit

Scores = Mapping[str, Mapping[str, Estimate]]


class Status(StrEnum):
    """How a fit ended."""

    CONVERGED = "converged"
    NOT_CONVERGED = "not converged"
    FAILED = "failed"
    GIVEN = "given"


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
        use_for, next_step: what the fit is still good for, and what to do.
        level: a crossing is clear when it is beyond the threshold by this two-sided level of
            its error.
        imperfect: a crossing within its error is mentioned when, at this level, the value is
            not perfect either: one perfect margin in a hundred has an extreme tail half empty
            by chance.
        least_draws: fewer draws decide nothing.
        vague_draws: with fewer only what is clear counts.
        residual: headline only when no other rule has crossed.
    """

    word: str
    metric: str
    side: int
    threshold: float | None
    reason: str
    use_for: str
    next_step: str
    level: float = 0.05
    imperfect: float = 0.01
    least_draws: int = 400
    vague_draws: int = 400
    residual: bool = False

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

RULES = (
    Rule(
        "Misses modes", "mode_coverage", -1, None,
        "It drops {crossed} of {tried} modes: {label} has {percent} of the target's mass there.",
        "describing the modes it has; no intervals, no tail risks",
        "add components or restarts, or fit by forward KL, which pays for every missed mode",
    ),
    Rule(
        "Wrong mode weights", "mode_distance", 1, 0.1,
        "The masses of the modes are off: Jensen-Shannon distance {value}.",
        "the shape of each mode, not how much each weighs",
        "reweight the draws if k̂ allows it, or use a guide with one component per mode",
    ),
    Rule(
        "Too sure", "width_ratio", -1, 0.9,
        "90 % intervals of {label} are too narrow: {value} times the target's.",
        "point estimates; no intervals",
        "use a more flexible guide (correlated, more components, a flow), or forward KL",
    ),
    Rule(
        "Too diffuse", "width_ratio", 1, 1.1,
        "90 % intervals of {label} are too wide: {value} times the target's.",
        "cautious intervals; as a proposal for importance sampling if k̂ allows it",
        "use a more flexible guide, or reweight the draws if k̂ allows it",
    ),
    Rule(
        "Shifted", "mean_shift", 1, 0.2,
        "The mean of {label} is off by {value} sd.",
        "rough location only",
        "run longer or from more starts; if it stays, the guide is too rigid",
    ),
    Rule(
        "Loses dependence", "correlation", 1, None,
        "The rank correlation of {label} is off by {value}.",
        "single margins, not their combinations",
        "use a guide with full covariance (mvn) or a mixture",
    ),
    Rule(
        "Light tails", "tail_mass", -1, None,
        "It gives {label} {value} times the mass that the target has there.",
        "the bulk; no rare events",
        "use a heavier-tailed guide, or forward KL",
        vague_draws=TAIL_DRAWS,
    ),
    Rule(
        "Heavy tails", "tail_mass", 1, None,
        "It gives {label} {value} times the mass that the target has there.",
        "the bulk; as a proposal for importance sampling if k̂ allows it",
        "use a more flexible guide, or reweight the draws if k̂ allows it",
        vague_draws=TAIL_DRAWS,
    ),
    Rule(
        "Misses mass", "missed_mass", 1, None,
        "{percent} of the target lies where the fit has almost nothing (1 % is perfect).",
        "the region it covers",
        "use a more flexible guide, or forward KL",
        residual=True,
    ),
    Rule(
        "Invents mass", "invented_mass", 1, None,
        "{percent} of the fit lies where the target has almost nothing (1 % is perfect).",
        "moments and cautious intervals, not its shape; as a proposal if k̂ allows it",
        "reweight the draws if k̂ allows it, or use a more flexible guide",
        residual=True,
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
    """

    word: str
    also: tuple[str, ...]
    reasons: tuple[str, ...]
    use_for: str
    next_step: str
    reweightable: bool = False


def judge(
    status: Status,
    message: str,
    scores: Scores,
    doubts: tuple[str, ...] = (),
    rules: tuple[Rule, ...] = RULES,
    caution: str = "",
    remedy: str = "",
    *,
    abouts: Mapping[str, About],
) -> Verdict:
    """The verdict on a fit that ended with `status`, from its metrics alone.

    Args:
        message: how it ended, in words.
        doubts: about the reference that the metrics rest on; with any, no word is stronger
            than Unverified.
        caution: about the loss that it was fitted by; it is said and changes nothing.
        remedy: what to do about a fit that did not converge.
        abouts: {metric: what its numbers mean} of all in `scores`.
    """
    if status == Status.FAILED:
        advice = "mend what is named, or start closer with init_loc_fn"
        return Verdict("Failed", (), (f"It failed: {message}.",), "nothing", advice)
    crossed = [c for c in (_cross(rule, scores, abouts) for rule in rules) if c]
    # What is only left over counts for the headline if nothing above explains it.
    crossed.sort(key=lambda c: c.rule.residual)
    clear = [c for c in crossed if c.clear]
    vague = [c for c in crossed if not c.clear]
    words = [c.rule.word for c in clear]
    reasons = [c.sentence for c in clear or vague]
    if clear and vague:
        near = formatting.listed(list(dict.fromkeys(c.rule.word for c in vague)))
        reasons.append(f"Within error of the threshold: {near}.")
    use_for = (clear + vague)[0].rule.use_for if clear + vague else "its draws can be used directly"
    step = (clear + vague)[0].rule.next_step if clear + vague else "nothing needs doing"
    if not words and vague:
        words = [f"between Faithful and {vague[0].rule.word}"]
    if not words:
        words = ["Faithful" if _has_reference(scores) else "Unverified"]
        reasons = _summary(scores, abouts)
    if words[0] == "Unverified":
        use_for = "exploration, until draws of the target confirm it"
        step = "give exact(key, n) or a reference, so that missed mass can be seen"
    if doubts:
        words = ["Unverified", *(w for w in words if w not in ("Faithful", "Unverified"))]
        reasons = [f"The reference is in doubt: {'; '.join(doubts)}.", *reasons]
        use_for = "exploration, until a reference that can be believed confirms it"
        step = "mend the reference first: longer chains, another parameterisation, exact draws"
    if status == Status.NOT_CONVERGED:
        words, reasons = (
            ["Not converged", *words],
            [f"{message[0].upper()}{message[1:]}.", *reasons],
        )
        use_for, step = "nothing yet", remedy or "run it longer, or from more starts"
    if caution:
        reasons = [*reasons, f"{caution[0].upper()}{caution[1:]}."]
    reweightable = _reweightable(scores) and "Misses modes" not in words and not doubts
    return Verdict(words[0], tuple(words[1:]), tuple(reasons), use_for, step, reweightable)


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
        value, error = self.estimate.value or 0.0, self.estimate.standard_error
        text = self.rule.reason.format(
            value=formatting.with_error(value, error),
            percent=formatting.percent(value, error),
            label=self.label,
            crossed=formatting.words(self.crossed),
            tried=formatting.words(self.tried),
        )
        return text if self.clear else f"{text} That is within error of the threshold."


def _cross(rule: Rule, scores: Scores, abouts: Mapping[str, About]) -> _Crossing | None:
    """The worst value beyond the rule's threshold, of those that are clearly beyond if any."""
    by = dict(scores.get(rule.metric, {}))
    if len(by) > 1:
        by.pop(ALL)
    draws = lambda e: e.n or 0
    usable = {k: e for k, e in by.items() if e.value is not None and draws(e) >= rule.least_draws}
    if not usable:
        return None
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


def _quantile(level: float, tried: int = 1) -> float:
    """Standard errors that the worst of `tried` passes by chance at this two-sided level."""
    return NormalDist().inv_cdf(1 - level / (2 * max(1, tried)))


def _has_reference(scores: Scores) -> bool:
    missed = scores.get("missed_mass", {}).get(ALL)
    return missed is not None and missed.value is not None


def _summary(scores: Scores, abouts: Mapping[str, About]) -> list[str]:
    """The numbers behind a fit that nothing is held against."""
    parts = []
    for metric in ("forward_kl", "reverse_kl", "elbo", "khat"):
        e = scores.get(metric, {}).get(ALL)
        if e is not None and e.value is not None:
            about = abouts[metric]
            number = formatting.with_error(e.value, e.standard_error, about.suffix)
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
