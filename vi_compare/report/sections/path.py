"""How the best approximation changes on the way from reverse to forward KL, and where it jumps."""

from __future__ import annotations

import numpy as np

from vi_compare import formatting
from vi_compare.report.blocks import Command, Explorer, Note, Picture, Section
from vi_compare.report.figures import morph
from vi_compare.report.figures.along import Panel, crowded, stack
from vi_compare.report.figures.tradeoff import Map, Sides, tradeoff
from vi_compare.report.path import Branch, Path, explorer, tables
from vi_compare.report.path.words import alpha, end, finding, holds
from vi_compare.report.view import View, short


def section(view: View) -> Section | None:
    path = Path.of(view.path)
    if path is None:
        return None
    dots, drawn = _tradeoff(view, path)
    stages = [morph.stage(path, k) for k in range(len(path.margins))]
    data = explorer.packed(path, stages, drawn.places if drawn else {})
    pictures = [
        *(Picture(stage.svg, _at_slider(path, k), part="moving") for k, stage in enumerate(stages)),
        *_stills(path),
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
    blocks = [
        _meaning(path),
        explored,
        tables.branches(path),
        *tables.transitions(path),
        Command(path.data["command"]),
    ]
    return Section("path", "Between reverse and forward KL", finding(path), blocks, order=48)


def _meaning(path: Path) -> Note:
    text = (
        "Amari's α-divergence A = (1 − ∫ pᵅ q¹⁻ᵅ) ÷ (α(1 − α)) is the reverse KL at α = 0 and "
        "the forward KL at α = 1. Every local optimum that was found is followed along α for as "
        "long as it exists: a branch."
    )
    mirrored = any(b.images > 1 for b in path.branches)
    more = " Mirror images are one branch, and one of them is shown." if mirrored else ""
    return Note(text + more)


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
        where = f" at {alpha(jump.alpha)}" if len(path.jumps) > 1 else ""
        before, after = np.flatnonzero(alphas <= jump.alpha), np.flatnonzero(alphas > jump.alpha)
        if before.size and after.size:
            stops += [
                (int(before[-1]), f"before the jump{where}"),
                (int(after[0]), f"after the jump{where}"),
            ]
    return sorted(stops)


def _inside(path: Path, a: float) -> bool:
    return bool(path.range[0] <= a <= path.range[1])


def _stills(path: Path) -> list[Picture]:
    """One a margin; none where no optimum is known to be the lowest."""
    looks = _looks(path)
    if not looks:
        return []
    told = []
    for branch, i in looks:
        what = holds(path, branch, i)
        which = f", which {what}" if what else ""
        told.append(f"α = {alpha(branch.alpha[i])}: branch {branch.name}{which}")
    return [
        Picture(
            morph.stills(path, k, looks, f"Over {m.label}, target filled. {'; '.join(told)}."),
            f"Density over {m.label} of the lowest optimum; grey: target.",
            part="still",
        )
        for k, m in enumerate(path.margins)
    ]


def _looks(path: Path, most: int = 6) -> list[tuple[Branch, int]]:
    """The lowest optimum at `most` values of α: the ends, the two KLs, both sides of the largest
    jump, and others between."""
    known = [found for a in path.alphas if (found := path.best(a))]
    if not known:
        return []
    alphas = np.array([branch.alpha[i] for branch, i in known])
    last = len(known) - 1
    nearest = lambda a: int(np.argmin(abs(alphas - a)))
    wanted = [0, last, *(nearest(a) for a in (0.0, 1.0) if _inside(path, a))]
    if path.jumps:
        largest = max(path.jumps, key=lambda jump: jump.nats or 0.0).alpha
        before = int(np.searchsorted(alphas, largest, side="right")) - 1
        wanted += [max(before, 0), min(before + 1, last)]
    wanted += [nearest(a) for a in (0.5, *np.linspace(alphas[0], alphas[-1], most))]
    return [known[k] for k in sorted(list(dict.fromkeys(wanted))[:most])]


Dots = list[tuple]


def _tradeoff(view: View, path: Path) -> tuple[Dots, Map | None]:
    """The two KLs, or the two masses where log Z is not known."""
    kls = Sides("reverse_kl", "forward_kl", "reverse KL (nats)", "forward KL (nats)")
    masses = Sides("invented_mass", "missed_mass", "invented mass", "missed mass")
    for sides in (kls, masses):
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
    for branch, i in _looks(path):
        x, y = (branch.reading(name, i).value for name in (sides.x, sides.y))
        if x is not None and y is not None:
            there = f"{formatting.plain(x)} and {formatting.plain(y)}"
            told.append(f"α = {alpha(branch.alpha[i])}: {there}")
    fits = [
        f"{f.name}: {formatting.plain(x.value)} and {formatting.plain(y.value)}" for f, x, y in dots
    ]
    study = f"Fits of this study. {'; '.join(fits)}." if fits else "No fit of this study has both."
    lead = f"{sides.x_label} and {sides.y_label} of the lowest optimum, {_span(path)}."
    return f"{lead} {'; '.join(told)}. {study}"


def _span(path: Path) -> str:
    return "α from {} to {}".format(*map(alpha, path.range))


def _tradeoff_caption(path: Path, view: View, dots: Dots) -> str:
    left = len(view.fits) - len(dots)
    without = f" {formatting.words(left).capitalize()} without both numbers." if left else ""
    return (
        "Every point of the path by what it costs in both directions; the dashed line is a jump. "
        f"Coloured markers: the fits of this study.{without}"
    )


def _basins(path: Path, most: int = 6) -> list[Picture]:
    """Panels of the `most` largest modes."""
    n = min(len(path.modes), most, *(b.basins.shape[1] for b in path.branches))
    if not n:
        return []
    panels = [
        Panel(
            short(path.modes[k], 15),  # it stands beside the panel
            {b.name: b.basins[:, k : k + 1, 0] for b in path.branches},
            {b.name: b.basins[:, k : k + 1, 1] for b in path.branches},
            float(path.masses[k]) if k < len(path.masses) else None,
            (-0.03, None),
        )
        for k in range(n)
    ]
    said = [f"{path.modes[k]}: target {formatting.percent(path.masses[k])}" for k in range(n)]
    for branch, i in _looks(path):
        shares = [branch.basin(k, i).value for k in range(n)]
        known = ", ".join("unknown" if s is None else formatting.percent(s) for s in shares)
        said.append(f"α = {alpha(branch.alpha[i])}: {known}")
    picture = stack(
        "path-basins", path, panels, "Mass in the basin of every mode against α",
        f"Mass of the lowest optimum per mode, {_span(path)}. {'; '.join(said)}.", 0.95,
    )  # fmt: skip
    more = len(path.modes) - n
    rest = f" {formatting.count(more)} smaller modes are not shown." if more else ""
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
        parts = " Components are told apart by their dashes." if _components(path) > 1 else ""
        some = crowded(panels[0]) and len(path.ever_best) < len(path.branches)
        few = " Only branches that are the lowest somewhere are drawn." if some else ""
        picture = stack(
            f"path-parameters-{m}", path, panels, f"Parameters of the optima against α, {name}",
            f"Means and standard deviations over {name}. {_parameters_said(path, m)}", 1.1,
        )  # fmt: skip
        pictures.append(Picture(picture, f"Parameters over {name}.{parts}{few}"))
    return pictures


def _components(path: Path) -> int:
    return max(b.means.shape[1] for b in path.branches)


def _parameters_said(path: Path, m: int) -> str:
    told = []
    for branch, i in _looks(path):
        pairs = zip(branch.means[i, :, m], branch.sds[i, :, m], strict=True)
        parts = [f"{formatting.plain(mean)} (sd {formatting.plain(sd)})" for mean, sd in pairs]
        told.append(f"α = {alpha(branch.alpha[i])}: {', '.join(parts)}")
    return f"The lowest optimum, {_span(path)}. {'; '.join(told)}."
