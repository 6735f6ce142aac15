"""How the best approximation changes on the way from reverse to forward KL, and where it jumps."""

from __future__ import annotations

import numpy as np

from vi_compare import numbers
from vi_compare.report import explorer
from vi_compare.report.blocks import (
    Cell,
    Column,
    Command,
    Explorer,
    Note,
    Picture,
    Row,
    Section,
    Table,
)
from vi_compare.report.figures import morph
from vi_compare.report.figures.along import Panel, stack
from vi_compare.report.figures.tradeoff import Drawn, Sides, tradeoff
from vi_compare.report.path import Branch, End, Path
from vi_compare.report.path_words import SHARP, alpha, change, end, finding, holds
from vi_compare.report.view import View

ORDER = 48

MOST_MODES, MOST_STILLS = 6, 6
KLS = Sides("reverse_kl", "forward_kl", "reverse KL (nats)", "forward KL (nats)")
MASSES = Sides("invented_mass", "missed_mass", "invented mass", "missed mass")


def section(view: View) -> Section | None:
    path = Path.of(view.path)
    if path is None:
        return None
    dots, drawn = _tradeoff(view, path)
    stages = [morph.stage(path, k) for k in range(len(path.margins))]
    data = explorer.packed(path, stages, drawn.places if drawn else {})
    pictures = [
        *(Picture(stage.svg, _at_slider(path, k), part="moving") for k, stage in enumerate(stages)),
        *(Picture(_stills(path, k), part="still") for k in range(len(stages))),
        *([Picture(drawn.svg, _tradeoff_caption(path, view, dots))] if drawn else []),
        *_basins(path),
        *_parameters(path),
    ]
    how = (
        "Thick: the lowest optimum at each α; thin: the other optima that exist beside it. "
        "× marks where an optimum ceases to exist, a dashed upright line where the lowest one "
        "changes; a bar through either is its standard error. Letters name the branches; the "
        "thin upright line and the ring are where the slider stands."
    )
    explored = Explorer(
        pictures, how, [f for f, *_ in dots], True, data=data, stops=_stops(path),
        choices=[f"branch {b.name}, {end(b.begin)} to {end(b.end)}" for b in path.branches],
        ends=(alpha(path.alphas[0]), alpha(path.alphas[-1])),
    )  # fmt: skip
    mirrored = any(b.images > 1 for b in path.branches)
    blocks = [
        Note(MEANING + (MIRRORED if mirrored else "")),
        explored,
        _branches(path),
        *_transitions(path),
    ]
    # Where it came from stands last: to make it again.
    blocks.append(Command(path.data["command"]))
    return Section("path", "Between reverse and forward KL", finding(path), blocks)


MEANING = (
    "Amari's α-divergence A = (1 − ∫ pᵅ q¹⁻ᵅ) ÷ (α(1 − α)) is the reverse KL at α = 0 and the "
    "forward KL at α = 1. Every local optimum that was found is followed along α for as long as "
    "it exists: a branch."
)
MIRRORED = " Mirror images are one branch, and one of them is shown."


def _at_slider(path: Path, k: int) -> str:
    return f"Density over {path.margins[k].label} at the α of the slider; grey: target."


def _stops(path: Path) -> list[tuple[int, str]]:
    """Buttons beside the slider: which α, and what it is."""
    alphas = path.alphas
    at = lambda a: int(np.argmin(abs(alphas - a)))
    stops = [
        (at(p), f"{w} KL") for p, w in ((0.0, "reverse"), (1.0, "forward")) if _inside(path, p)
    ]
    for jump in path.jumps[:2]:
        before, after = np.flatnonzero(alphas <= jump.alpha), np.flatnonzero(alphas > jump.alpha)
        if before.size and after.size:
            stops += [
                (int(before[-1]), f"before the jump at {alpha(jump.alpha)}"),
                (int(after[0]), f"after the jump at {alpha(jump.alpha)}"),
            ]
    return sorted(stops)


def _inside(path: Path, a: float) -> bool:
    return bool(path.range[0] <= a <= path.range[1])


def _stills(path: Path, k: int):
    alphas = still_alphas(path)
    told = []
    for a in alphas:
        found = path.best(a)
        assert found is not None  # they were chosen so
        what = holds(path, *found)
        told.append(f"α = {alpha(a)}: branch {found[0].name}{', which ' + what if what else ''}")
    said = f"Over {path.margins[k].label}, target filled. {'; '.join(told)}."
    return morph.stills(path, k, alphas, said)


def still_alphas(path: Path) -> list[float]:
    """The ends, the two KLs, ½, and both sides of the largest jump: as far as there is a best."""
    known = np.array([a for a in path.alphas if path.best(a)])
    if not known.size:
        return []
    wanted = [known[0], known[-1], *(a for a in (0.0, 1.0) if _inside(path, a))]
    if path.jumps:
        largest = max(path.jumps, key=lambda j: j.nats or 0.0).alpha
        sides = known[known <= largest][-1:], known[known > largest][:1]
        wanted += [float(a) for side in sides for a in side]
    wanted += [0.5, *np.linspace(known[0], known[-1], MOST_STILLS)]
    nearest = (float(known[np.argmin(abs(known - a))]) for a in wanted)
    return sorted(list(dict.fromkeys(nearest))[:MOST_STILLS])


Dots = list[tuple]


def _tradeoff(view: View, path: Path) -> tuple[Dots, Drawn | None]:
    """The two KLs, or the two masses where log Z is not known."""
    for sides in (KLS, MASSES):
        if any(_both(b, sides).any() for b in path.branches):
            dots = [
                (f, x, y)
                for f in view.fits
                if (x := f.reading(sides.x)).value is not None
                and (y := f.reading(sides.y)).value is not None
            ]
            return dots, tradeoff(path, sides, dots, _tradeoff_said(path, sides, dots))
    return [], None


def _both(branch: Branch, sides: Sides) -> np.ndarray:
    return np.isfinite(branch.measures[sides.x][:, 0] + branch.measures[sides.y][:, 0])


def _tradeoff_said(path: Path, sides: Sides, dots: Dots) -> str:
    told = []
    for a in still_alphas(path):
        found = path.best(a)
        assert found is not None
        branch, i = found
        values = [branch.reading(name, i).value for name in (sides.x, sides.y)]
        if None not in values:
            x, y = (numbers.plain(v) for v in values if v is not None)
            told.append(f"α = {alpha(a)}: {x} and {y}")
    fits = [f"{f.name}: {numbers.plain(x.value)} and {numbers.plain(y.value)}" for f, x, y in dots]
    return (
        f"{sides.x_label} and {sides.y_label} of the lowest optimum. {'; '.join(told)}. "
        f"Fits of this study. {'; '.join(fits) or 'None of the 0 has both'}."
    )


def _tradeoff_caption(path: Path, view: View, dots: Dots) -> str:
    left = len(view.fits) - len(dots)
    without = f" {numbers.words(left).capitalize()} without both numbers." if left else ""
    return (
        "Every point of the path by what it costs in both directions, α growing along the line. "
        f"Coloured markers: the fits of this study.{without}"
    )


def _basins(path: Path) -> list[Picture]:
    n = min(len(path.modes), MOST_MODES, *(b.basins.shape[1] for b in path.branches))
    if not n:
        return []
    panels = [
        Panel(
            path.modes[k],
            {b.name: b.basins[:, k : k + 1, 0] for b in path.branches},
            {b.name: b.basins[:, k : k + 1, 1] for b in path.branches},
            float(path.masses[k]) if k < len(path.masses) else None,
            (-0.03, None),
        )
        for k in range(n)
    ]
    said = [f"{path.modes[k]}: target {numbers.percent(path.masses[k])}" for k in range(n)]
    for a in still_alphas(path):
        found = path.best(a)
        assert found is not None
        branch, i = found
        shares = [branch.basin(k, i).value for k in range(n)]
        said.append(
            f"α = {alpha(a)}: "
            + ", ".join("unknown" if s is None else numbers.percent(s) for s in shares)
        )
    picture = stack(
        "path-basins", path, panels, "Mass in the basin of every mode against α",
        f"Mass of the lowest optimum per mode. {'; '.join(said)}.", 0.95,
    )  # fmt: skip
    more = len(path.modes) - n
    rest = f" {numbers.count(more)} smaller modes are not shown." if more else ""
    return [Picture(picture, f"Mass in the basin of each mode; grey: the target's.{rest}")]


def _parameters(path: Path) -> list[Picture]:
    """One figure a margin: weights (on the first), means and standard deviations."""
    margins = min(b.means.shape[2] for b in path.branches)
    pictures = []
    for m in range(margins):
        name = path.margins[m].label if m < len(path.margins) else f"margin {m + 1}"
        panels = [
            Panel("mean", {b.name: b.means[:, :, m] for b in path.branches}),
            Panel("sd", {b.name: b.sds[:, :, m] for b in path.branches}, limits=(0, None)),
        ]
        if m == 0 and all(b.weights is not None for b in path.branches):
            weights = {b.name: b.weights for b in path.branches if b.weights is not None}
            panels.insert(0, Panel("weight", weights, limits=(-0.03, 1.03)))
        parts = "Components are told apart by their dashes." if _components(path) > 1 else ""
        picture = stack(
            f"path-parameters-{m}", path, panels, f"Parameters of the optima against α, {name}",
            f"Means and standard deviations over {name}. {_parameters_said(path, m)}", 1.1,
        )  # fmt: skip
        pictures.append(Picture(picture, f"Parameters over {name}. {parts}"))
    return pictures


def _components(path: Path) -> int:
    return max(b.means.shape[1] for b in path.branches)


def _parameters_said(path: Path, m: int) -> str:
    told = []
    for a in still_alphas(path):
        found = path.best(a)
        assert found is not None
        branch, i = found
        pairs = zip(branch.means[i, :, m], branch.sds[i, :, m], strict=True)
        parts = [f"{numbers.plain(mean)} (sd {numbers.plain(sd)})" for mean, sd in pairs]
        told.append(f"α = {alpha(a)}: {', '.join(parts)}")
    return f"The lowest optimum. {'; '.join(told)}."


def _branches(path: Path) -> Table:
    columns = [
        Column.words("Branch"),
        Column("Optima", "with mirror images"),
        Column("Exists from", "α"),
        Column("to", "α"),
        Column.words("Lowest for α"),
        Column.words("What it does", "where it is lowest, or in its middle"),
    ]
    return Table(
        columns,
        [Row(_branch(path, b)) for b in path.branches],
        "branches",
        "Branches",
        f"“Edge” is where the search was told to stop. {_made(path)}",
    )


def _made(path: Path) -> str:
    data = path.data
    parts = [str(data.get("method") or "")]
    if nodes := data.get("nodes"):
        parts[0] += f" with {numbers.count(int(nodes))} nodes"
    parts += [f"{data['restarts']} restarts"] if data.get("restarts") else []
    parts += [f"{len(path.alphas)} values of α"]
    parts += [f"{numbers.seconds(data['seconds'])} s"] if data.get("seconds") else []
    text = ", ".join(p for p in parts if p)
    return f"{text[:1].upper()}{text[1:]}."


def _branch(path: Path, branch: Branch) -> list[Cell]:
    spans = path.where_best(branch)
    where = numbers.listed([f"{alpha(low)} to {alpha(high)}" for low, high in spans])
    seen = np.flatnonzero(branch.best) if spans else np.arange(len(branch.alpha))
    return [
        Cell(branch.name),
        Cell(str(branch.images), value=branch.images),
        _place(branch.begin),
        _place(branch.end),
        Cell(where or "–"),
        Cell(holds(path, branch, int(seen[len(seen) // 2])) or "–"),
    ]


def _place(place: End) -> Cell:
    below = () if place.lost else ("edge",)
    if place.lost and place.error:
        text, spread = numbers.pair(place.alpha, place.error)
        if place.error < SHARP:
            text, spread = alpha(place.alpha), numbers.plain(place.error, 1)
        return Cell(text, (f"± {spread}",), value=place.alpha, error=place.error)
    return Cell(alpha(place.alpha), below, value=place.alpha)


def _transitions(path: Path) -> list[Table]:
    if not path.jumps:
        return []
    columns = [
        Column("At α"),
        Column.words("From"),
        Column.words("To"),
        Column("Jump", "nats, symmetrised KL"),
        Column.words("What changes"),
    ]
    rows = [
        Row(
            [
                _place(End(j.alpha, j.error, True)),
                Cell(j.old),
                Cell(j.new),
                Cell("–") if j.nats is None else Cell(numbers.plain(j.nats, 2), value=j.nats),
                Cell(change(path, j)),
            ]
        )
        for j in path.jumps
    ]
    return [Table(columns, rows, "transitions", "Where the lowest optimum changes")]
