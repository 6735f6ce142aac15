"""What a path says, in sentences: true for any path, the finding first."""

from __future__ import annotations

import numpy as np

from vi_compare import formatting
from vi_compare.report import marks
from vi_compare.report.path import Branch, End, Jump, Path


def finding(path: Path, most: int = 3) -> str:
    """The lead of the section; the `most` largest jumps are told, the others stand in a table."""
    told = sorted(path.jumps, key=lambda j: -(j.nats or 0.0))[:most]
    parts = [_jump(path, j) for j in sorted(told, key=lambda j: j.alpha)] or [_smooth(path)]
    if more := len(path.jumps) - len(told):
        parts.append(f"It jumps {formatting.words(more)} more time{'s' * (more > 1)}.")
    text = " ".join([*parts, *_crowd(path), *_ends(path), *_either(path)])
    # Spaces that do not break: a line must not end before a number.
    return text.replace(" = ", "\u00a0=\u00a0").replace(" ± ", "\u00a0±\u00a0")


def alpha(value: float, error: float | None = None, least: float = 5e-5) -> str:
    """An α with its error, where that is at least `least`: a smaller one is not worth its
    digits in a sentence."""
    if error and error >= least:
        return formatting.with_error(value, error)
    text = f"{value:.4f}".rstrip("0").rstrip(".")
    return "0" if text == "-0" else formatting.minus(text)


def pole(value: float) -> str:
    """What the divergence is called at this α: "reverse KL" at 0, "forward KL" at 1, else ""."""
    return {0.0: "reverse KL", 1.0: "forward KL"}.get(value, "")


def holds(path: Path, branch: Branch, i: int) -> str:
    """ "covers all three modes", "leaves out x = 2 (30.0 %)"; "" where it is not known."""
    covered = _covered(path, branch, i)
    if covered is None:
        return ""
    lost = [k for k, kept in covered.items() if not kept]
    n = len(covered)
    if not lost:
        every = "both modes" if n == 2 else f"all {formatting.words(n)} modes"
        return f"covers {every}" if n > 1 else "covers the mode"
    if len(lost) > 2:
        mass = formatting.percent(float(path.masses[lost].sum()))
        return f"leaves out {formatting.words(len(lost))} of {n} modes ({mass} of the target)"
    named = [f"{path.modes[k]} ({formatting.percent(path.masses[k])} of the target)" for k in lost]
    return f"leaves out {formatting.listed(named)}"


def change(path: Path, jump: Jump) -> str:
    """What is different on the other side: "leaves out x = 2 → covers all three modes"."""
    sides = path.sides(jump)
    if sides is None:
        return "–"
    below, above = (holds(path, *side) for side in sides)
    if below and above and below != above:
        return f"{below} → {above}"
    return _moved(path, *sides[0], *sides[1])


def _jump(path: Path, jump: Jump) -> str:
    far = "" if jump.nats is None else f" by {formatting.plain(jump.nats, 2)} nats (symmetrised KL)"
    at, branches = alpha(jump.alpha, jump.error), f"from branch {jump.old} to {jump.new}"
    sides = path.sides(jump)
    below, above = (holds(path, *side) for side in sides) if sides else ("", "")
    begin = f"At α = {at} the best {path.guide} jumps{far}, {branches}"
    if not sides:
        return f"{begin}."
    if not below or not above or below == above:
        return f"{begin}: {_moved(path, *sides[0], *sides[1])}."
    if not _two_halves(path, jump, below, above):
        return f"{begin}: just below it {below}, just above it {above}."
    return (
        f"From α = {at} on the best {path.guide} {above}; below, it {below}. "
        f"There the optimum jumps{far}, {branches}."
    )


def _two_halves(path: Path, jump: Jump, below: str, above: str) -> bool:
    """Whether one thing holds everywhere below the jump and the other everywhere above it."""
    found = [(a, path.best(a)) for a in path.alphas]
    return all(
        best is not None and holds(path, *best) == (below if a <= jump.alpha else above)
        for a, best in found
    )


def _smooth(path: Path) -> str:
    known = [found for a in path.alphas if (found := path.best(a))]
    if not known:
        return f"Which {path.guide} is the best is not known at any α."
    (old, i), (new, j) = known[0], known[-1]
    low, high = alpha(old.alpha[i]), alpha(new.alpha[j])
    if low == high:
        return f"The path of {path.guide} is the one point α = {low}."
    moved = _moved(path, old, i, new, j)
    how = "changes without a jump" if len(path.ever_best) == 1 else "changes"
    return f"The best {path.guide} {how} from α = {low} to {high}: {moved}."


def _moved(path: Path, old: Branch, i: int, new: Branch, j: int, least: float = 0.02) -> str:
    """The mode whose mass changes most; a measure where none changes by more than `least`."""
    if path.modes and old.basins.shape[1] == new.basins.shape[1] == len(path.modes):
        gap = np.nan_to_num(new.basins[j, :, 0] - old.basins[i, :, 0])
        k = int(np.argmax(abs(gap)))
        if abs(gap[k]) > least:
            masses = (formatting.percent(b.basins[p, k, 0]) for b, p in ((old, i), (new, j)))
            return f"its mass in {path.modes[k]} goes from {' to '.join(masses)}"
    for measure in ("forward_kl", "reverse_kl", "missed_mass"):
        before, after = old.reading(measure, i).value, new.reading(measure, j).value
        if before is not None and after is not None:
            about = path.abouts[measure]
            change = f"from {formatting.plain(before)} to {formatting.plain(after)}"
            return f"its {about.name} goes {change} {about.suffix}".rstrip()
    return "no measure of it is known on both sides"


def _covered(path: Path, branch: Branch, i: int) -> dict[int, bool] | None:
    """{mode: whether it holds enough of what the target has there}, as for every fit."""
    if not path.modes or branch.basins.shape[1] != len(path.modes) != 0:
        return None
    masses = branch.basins[i, :, 0]
    if not np.isfinite(masses).all() or path.masses.shape != masses.shape:
        return None
    about = path.abouts["mode_coverage"]
    counted = np.flatnonzero(path.masses >= about.counts_from)
    return {int(k): marks.mark(about, masses[k] / path.masses[k]) != "bad" for k in counted}


def _crowd(path: Path) -> list[str]:
    most, low, high = path.crowd
    if most < 2:
        return [] if len(path.branches) > 1 else ["No other optimum was found beside it."]
    there = [b for b in path.branches if b.begin.alpha <= (low + high) / 2 <= b.end.alpha]
    every = sum(b.images for b in there)
    images = f" ({formatting.words(every)} with mirror images)" if every > most else ""
    return [
        f"Up to {formatting.words(most)} optima{images} were found side by side, between "
        f"α = {alpha(low)} and {alpha(high)}."
    ]


def _ends(path: Path, most: int = 3) -> list[str]:
    """Where the optima that were lowest somewhere begin and end, at the first `most` places."""
    said = [
        f"{b.name} {verb} at α = {alpha(end.alpha, end.error)}"
        for b in path.ever_best
        for end, verb in ((b.begin, "begins"), (b.end, "ends"))
        if end.lost
    ]
    return [f"Branch {formatting.listed(said[:most])}."] if said else []


def _either(path: Path) -> list[str]:
    """Where one jump is all there is, how far both of its optima exist."""
    if len(path.jumps) != 1:
        return []
    named = {b.name: b for b in path.branches}
    old, new = named.get(path.jumps[0].old), named.get(path.jumps[0].new)
    if old is None or new is None or not old.end.lost or not new.begin.lost:
        return []
    if new.begin.alpha >= old.end.alpha:
        return []
    between = f"{alpha(new.begin.alpha)} and {alpha(old.end.alpha)}"
    return [f"Between α = {between} both exist, and a fit may end in either."]


def end(place: End) -> str:
    """For a table: an α, and whether it is only where the search stopped."""
    return alpha(place.alpha, place.error) if place.lost else f"{alpha(place.alpha)} (edge)"
