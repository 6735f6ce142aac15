"""Where the mass of a target may be: a Gaussian around every mode that an ascent finds.

Before anything is fitted. Ascents start as they do in a fit, and besides at draws of the prior
and in wider cubes, in rounds, until hardly one of them ends where no other has: by then the
modes that are left have a small share of all places to start from (Good 1953, "The population
frequencies of species and the estimation of population parameters").
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np
from jax import Array

from vi_compare.gaussian.antithetic import even_pairs
from vi_compare.gaussian.frames import MOST, Frame
from vi_compare.gaussian.gaussians import MOST_FULL
from vi_compare.gaussian.pathfinder import (
    Found,
    PathTuning,
    apart,
    ascents,
    best_of,
    best_on_path,
    elbo,
    full_rank,
    mean_field,
)
from vi_compare.gaussian.quasi_newton import Point
from vi_compare.randomness import generator, split
from vi_compare.reference import by_running_the_model
from vi_compare.scores import Scores
from vi_compare.starts import starting_points
from vi_compare.target import Target

# Where the first ascents come from.
FITS = "the starts of a fit"


@dataclass(frozen=True)
class PlaceSearch:
    """How places are looked for.

    Attributes:
        first: ascents from where a fit would start.
        dimensions: maximum dimension in which there are others.
        each: those of the first round from the prior and from every cube; later rounds are each as
            large as all before.
        radii: of the cubes, in units of u.
        steps: maximum number of steps of an ascent.
        saddle: nats that log p falls on the straight line between two modes.
        close: distance in a mode's frame, per coordinate, at which an ascent has ended there.
        within: standard deviations of a Gaussian in which there is no other mode.
        apart: standard deviations, and the same per root of the dimension, up to which two
            Gaussians are one.
        behind: nats that the ELBO of a place may be below that of the best.
        draws: for an ELBO; few are enough to rank them.
        unseen: share of the ascents from one source, the prior or one of the cubes, that may end
            where no other has.
        rounds: of ascents, at most.
        tried: ascents to a place, after the first round, along which a Gaussian is looked for.
        nearest: known places that the end of an ascent is compared with along straight lines.
        gradients: after which there is no other round.
        most: number of places.
        countless: share of the ascents that end where no other did, above which the modes are too
            many to be counted and no other round is made.
    """

    first: int = 10
    dimensions: int = 50
    each: int = 8
    radii: tuple[float, ...] = (2.0, 8.0, 32.0)
    steps: int = 200
    saddle: float = 2.0
    close: float = 0.1
    within: float = 3.0
    apart: tuple[float, float] = (4.0, 1.5)
    behind: float = 10.0
    draws: int = 32
    unseen: float = 0.02
    rounds: int = 6
    tried: int = 3
    nearest: int = 3
    gradients: int = 60_000
    most: int = 64
    countless: float = 0.5


@dataclass(frozen=True)
class Places:
    """What ascents have found.

    Attributes:
        frames: a Gaussian around each place, the one of the highest ELBO first.
        ascents: how many were made.
        singles: places where one of them ended.
        is_countless: whether most of them ended where no other did.
        gradients: that it took.
    """

    frames: tuple[Frame, ...]
    ascents: int
    singles: int
    is_countless: bool
    gradients: int


def find_places(target: Target, key: Array, search: PlaceSearch = PlaceSearch()) -> Places:
    """Gaussians around the modes of a target; none where no Gaussian is finite anywhere."""
    if target.dim > MOST:
        return Places((), 0, 0, False, 0)
    first_key, more_key, draw_key = split(key, 3)
    scores = Scores(target)
    found = _Found(scores, even_pairs(generator(draw_key), search.draws, target.dim), search)
    starts = np.asarray(starting_points(target, first_key, search.first, scores), float)
    found.climb({FITS: starts}, search.first)
    kept = found.kept()
    rounds = search.rounds if target.dim <= search.dimensions else 0
    for i, round_key in enumerate(split(more_key, rounds)):
        if scores.gradients >= search.gradients or found.is_countless(kept):
            break
        each = search.each * 2 ** max(0, i - 1)
        found.climb(_starts(target, round_key, search.radii, each), search.tried)
        kept = found.kept()
        if found.unseen(kept) <= search.unseen:
            break
    frames = tuple(found.frames(kept)[: search.most])
    singles, countless = found.singles(kept).total(), found.is_countless(kept)
    return Places(frames, found.made.total(), singles, countless, scores.gradients)


class _Place:
    """A mode, and Gaussians on the ways to it.

    Attributes:
        x, height: (d,), and log p there.
        hits: where the ascents came from that ended there.
        candidates: the best of each way.
    """

    def __init__(self, x: np.ndarray, height: float):
        self.x, self.height = x, height
        self.hits: list[str] = []
        self.candidates: list[Found] = []

    @property
    def elbo(self) -> float:
        """Of the best Gaussian, in nats; −∞ where there is none."""
        return -np.inf if self.best is None else self.best.elbo

    @property
    def frame(self) -> Frame | None:
        """The best Gaussian."""
        return None if self.best is None else Frame.of(self.best.gaussian)

    @property
    def best(self) -> Found | None:
        return best_of(self.candidates)

    @property
    def is_agreed(self) -> bool:
        """Whether the first few are alike, so that others would hardly be better."""
        best, enough = self.best, len(self.candidates) >= PathTuning.first
        return enough and best is not None and not any(apart(x, best) for x in self.candidates)

    def alone(self) -> _Place:
        """The same, with a list of hits of its own."""
        out = _Place(self.x, self.height)
        out.hits, out.candidates = list(self.hits), self.candidates
        return out


class _Found:
    """Places found so far."""

    def __init__(self, scores: Scores, e: np.ndarray, search: PlaceSearch):
        self.scores, self.e, self.search = scores, e, search
        self.places: list[_Place] = []
        self.made: Counter[str] = Counter()
        self.make = full_rank if scores.dim <= MOST_FULL else mean_field

    def climb(self, starts: Mapping[str, np.ndarray], tried: int) -> None:
        """Ascents from starts {source: (n, d)}; along the first `tried` to each place a Gaussian is
        looked for."""
        sources = [source for source, points in starts.items() for _ in points]
        if not sources:
            return
        tuning = PathTuning(steps=self.search.steps)
        with np.errstate(all="ignore"):  # a trial that overflows is a step too long
            paths = ascents(self.scores, np.concatenate(list(starts.values())), tuning)
            for path, source in zip(paths, sources, strict=True):
                if np.isfinite(path[-1].value):
                    self._ended(path, source, tried)

    def _ended(self, path: list[Point], source: str, tried: int) -> None:
        self.made[source] += 1
        x, height = path[-1].x, -path[-1].value
        place = self._place_of(x, height)
        if place is None:
            place = _Place(x, height)
            self.places.append(place)
        elif height > place.height:
            place.x, place.height = x, height
        place.hits.append(source)
        if len(place.candidates) >= tried or place.is_agreed:
            return
        best = best_on_path(self.scores, path, self.make, self.e)
        if best is not None:
            place.candidates.append(best)

    def _place_of(self, x: np.ndarray, height: float) -> _Place | None:
        """Where an ascent has ended that ended at x: where it is near to a known place, or on a
        slope that leads there without a saddle."""
        if not self.places:
            return None
        scaled = (x - np.stack([place.x for place in self.places])) / self._scales()
        apart = np.linalg.norm(scaled, axis=1)
        order = np.argsort(apart, kind="stable")[: self.search.nearest]
        near = [self.places[k] for k in order]
        if apart[order[0]] <= self.search.close * np.sqrt(len(x)):
            return near[0]
        between = np.linspace(0, 1, 17)[1:-1, None]
        lines = [place.x + between * (x - place.x) for place in near]
        heights = self.scores(np.concatenate(lines))[0].reshape(len(near), -1).min(axis=1)
        for place, least in zip(near, heights, strict=True):
            if least >= min(height, place.height) - self.search.saddle:
                return place
        return None

    def _scales(self) -> np.ndarray | float:
        """(d,) of the first Gaussian that was found, given all other coordinates."""
        first = next((place.candidates[0] for place in self.places if place.candidates), None)
        return 1.0 if first is None else Frame.of(first.gaussian).conditional_scales

    def singles(self, kept: list[_Place]) -> Counter[str]:
        """{source: places of any mass where one ascent from it ended, and none from elsewhere}."""
        alone = [place.hits[0] for place in kept if len(place.hits) == 1]
        return Counter(alone if len(kept) > 1 else ())

    def unseen(self, kept: list[_Place]) -> float:
        """Share of the ascents from one source, at most, that would end in a new place: there were
        so many that did, and one more might have. 0 where a single place has any mass."""
        if len(kept) <= 1:
            return 0.0
        singles, others = self.singles(kept), self.made.keys() - {FITS}
        return max(((singles[one] + 1) / self.made[one] for one in others), default=0.0)

    def is_countless(self, kept: list[_Place]) -> bool:
        return self.singles(kept).total() > self.search.countless * self.made.total()

    def kept(self) -> list[_Place]:
        """Places whose best Gaussian is not far below the best of all, the best first; of several
        with one Gaussian, as at the ends of a funnel, the best."""
        order = sorted(self.places, key=lambda place: -place.elbo)
        kept: list[_Place] = []
        for place in order:
            if place.frame is None or place.elbo <= order[0].elbo - self.search.behind:
                break
            same = next((one for one in kept if self._is_one(one, place)), None)
            if same is None:
                kept.append(place.alone())
            else:
                same.hits += place.hits
        return kept

    def _is_one(self, place: _Place, other: _Place) -> bool:
        """Whether the best Gaussians of two places are one, as near as ascents find them."""
        a, b = place.frame, other.frame
        assert a is not None
        assert b is not None
        both = [np.linalg.norm(x.into(y.mean[None])) for x, y in ((a, b), (b, a))]
        least, each = self.search.apart
        return bool(min(both) <= max(least, each * np.sqrt(len(a.mean))))

    def frames(self, kept: list[_Place]) -> list[Frame]:
        """The best Gaussian of each place that is kept, the best place first."""
        return [frame for place in kept if (frame := self._best(place, kept)) is not None]

    def _best(self, place: _Place, kept: list[_Place]) -> Frame | None:
        """Of the Gaussians that reach no other place; where there is none, that at the mode."""
        others = [other.x for other in kept if other is not place]
        alone = [
            one
            for one in place.candidates
            if not others
            or self._apart(Frame.of(one.gaussian), np.stack(others)) >= self.search.within
        ]
        best = best_of(alone or self._at_the_mode(place))
        return None if best is None else Frame.of(best.gaussian)

    def _apart(self, frame: Frame, points: np.ndarray) -> float:
        """Standard deviations between a Gaussian and the nearest of points (n, d)."""
        return float(np.linalg.norm(frame.into(points), axis=1).min())

    def _at_the_mode(self, place: _Place) -> list[Found]:
        precision = self.scores.curvature(place.x)
        if not np.isfinite(precision).all():
            return []
        q = self.make(place.x, np.zeros_like(place.x), precision)[0]
        return [Found(q, elbo(self.scores, q, self.e)[0])]


def _starts(target: Target, key: Array, radii: Sequence[float], each: int) -> dict[str, np.ndarray]:
    """{source: points (n, d) of finite density}: draws of the prior, and points of cubes."""
    prior_key, cube_key = split(key, 2)
    rng = generator(cube_key)
    parts = {f"±{r:g}": rng.uniform(-r, r, (each, target.dim)) for r in radii}
    parts["the prior"] = _of_the_prior(target, prior_key, each)
    return {source: u[_has_density(target, u)] for source, u in parts.items() if len(u)}


def _has_density(target: Target, points: np.ndarray) -> np.ndarray:
    with np.errstate(all="ignore"):
        return np.isfinite(np.asarray(target.complete(jnp.asarray(points)).log_p))


def _of_the_prior(target: Target, key: Array, n: int) -> np.ndarray:
    """u (n, d) at draws of the latent sites' own distributions; none where one is improper."""
    try:
        values = by_running_the_model(target)(key, n)
        return np.asarray(target.draws(values).u, float)
    except Exception:  # what cannot be drawn says so in its own way
        return np.empty((0, target.dim))
