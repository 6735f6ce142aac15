"""A target is asked who it is before anything is measured: in seconds, in words, with a remedy.

What no comparison could mend is refused: data that were not given, a density that is another at
every call, a direction along which it has no finite mass. What only has to be known (a circle,
entries that never vary) is told.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from numpyro import handlers
from numpyro.infer.initialization import init_to_uniform
from numpyro.infer.util import compute_log_probs
from numpyro.primitives import Messenger

from vi_compare.errors import InputError
from vi_compare.estimate import entries, margins
from vi_compare.formatting import count, listed
from vi_compare.scores import values_and_slopes
from vi_compare.starts import starting_points
from vi_compare.target import Target


@dataclass(frozen=True)
class Questions:
    """How the density is probed.

    Attributes:
        far: shifts along a coordinate, in units of u, over which a density of finite mass
            must change.
        periods: candidates for the period of a coordinate: half and whole turns, and those of
            units that people count cycles in (1, 12, 24, 60, 180, 360, 365).
        same: relative difference of log p that rounding explains.
        differs: nats by which log p must change within a period to be no constant.
        points: starting points at which a coordinate is asked for a period.
        names: entries named in a sentence; more are counted.
        block: numbers held at once while coordinates are shifted.
    """

    far: tuple[float, ...] = (50.0, -50.0, 1e4)
    periods: tuple[float, ...] = (np.pi, 2 * np.pi, 1.0, 12.0, 24.0, 60.0, 180.0, 360.0, 365.0)
    same: float = 1e-12
    differs: float = 1e-6
    points: int = 4
    names: int = 3
    block: int = 4_000_000


def refuse_what_has_no_answer(
    target: Target, points: Array, asked: Questions = Questions()
) -> None:
    """Refuse a target that no comparison could be made of.

    Args:
        points: (n, d) where log p and its gradient are finite.

    Raises:
        InputError: naming the argument, the site or the entries, and the remedy.
    """
    _refuse_missing_data(target)
    _refuse_random_density(target, points)
    _refuse_infinite_mass(target, np.asarray(points, float), asked)


def told(target: Target) -> tuple[str, ...]:
    """What is good to know about the target's sites, a clause each."""
    return (
        *_circles(target), *_constants(target), *_blind_starts(target), *_computed(target)
    )  # fmt: skip


def _computed(target: Target) -> list[str]:
    """What is measured beside the sites, and what has too many entries for that."""
    out = []
    if target.quantities:
        names = listed([one.name for one in target.quantities])
        out.append(f"measured as well: {names}, computed of the latent values")
    for one in target.large:
        many = count(math.prod(one.shape))
        out.append(
            f"not measured: {one.name}, whose {many} entries are too many; name a function of "
            f"it in quantities"
        )
    return out


# --- data that were not given -----------------------------------------------------------


def _refuse_missing_data(target: Target) -> None:
    """An argument left at None makes its observed site latent without a word."""
    for name in _left_at_none(target):
        for site in target.sites:
            if _is_data_of(target, name, site.name, site.shape):
                raise InputError(
                    f"the model's argument {name!r} was left at None, so its data, site "
                    f"{site.name!r}, would be approximated as if nobody had seen them; give "
                    f'data = {{"{name}": ...}}, or {{"{name}": None}} if that is meant'
                )


def _left_at_none(target: Target) -> list[str]:
    try:
        parameters = list(inspect.signature(target.model).parameters.values())
    except (TypeError, ValueError):
        return []
    given = {p.name for p in parameters[: len(target.args)]} | target.kwargs.keys()
    return [p.name for p in parameters if p.default is None and p.name not in given]


def _is_data_of(target: Target, argument: str, site: str, shape: tuple[int, ...]) -> bool:
    """Whether the site is observed once the argument has a value of its shape."""
    try:
        trace = _traced(target, {argument: jnp.ones(shape)})
    except Exception:  # whatever a user's model raises when it is given ones
        return False
    return site in trace and trace[site]["is_observed"]


def missing_argument(target: Target) -> str:
    """A clause about arguments left at None, for a model that cannot be used; or ""."""
    names = ", ".join(map(repr, _left_at_none(target)))
    return f"; its argument {names} was left at None: were data forgotten?" if names else ""


def missing_values(
    target: Target, where: Callable[[str, list[tuple[int, ...]]], str], shown: int = 3
) -> str:
    """Which data that are missing, NaN or infinite leave a model without a density, in a
    sentence with the remedy; "" where none do. A model that masks them has one.

    Args:
        where: how the entries of an argument are named, e.g. by their rows in a file.
        shown: how many entries are named.
    """
    gaps = _named_gaps(target, where, shown)
    guilty = [name for name in gaps if _has_density(target, {name: _filled(target, name)})]
    whole = {name: _filled(target, name) for name in gaps}
    if not guilty and gaps and _has_density(target, whole):
        guilty = list(gaps)
    if not guilty:
        return ""
    return (
        f"{'; '.join(gaps[name] for name in guilty)}: missing, NaN or infinite, and the model does "
        f"not mask it; leave such rows out, or mask them in the model (numpyro.handlers.mask)"
    )


def all_gaps(
    target: Target, where: Callable[[str, list[tuple[int, ...]]], str], shown: int = 3
) -> str:
    """A clause about data that are missing, for a model that cannot be run; or ""."""
    found = _named_gaps(target, where, shown)
    return f"; it has missing values: {'; '.join(found.values())}" if found else ""


def _named_gaps(
    target: Target, where: Callable[[str, list[tuple[int, ...]]], str], shown: int
) -> dict[str, str]:
    """{argument: where it is missing, NaN or infinite}."""
    found: dict[str, str] = {}
    for name, value in target.kwargs.items():
        places = [tuple(map(int, index)) for index in np.argwhere(_not_finite(value))]
        more = f" and {len(places) - shown} more" if len(places) > shown else ""
        found |= {name: f"{where(name, places[:shown])}{more}"} if places else {}
    return found


def _not_finite(value: Any) -> np.ndarray:
    """Where a value is NaN or infinite; nowhere in what is no array of floats."""
    try:
        array = np.asarray(value)
    except (TypeError, ValueError):
        return np.zeros(0, bool)
    return ~np.isfinite(array) if array.dtype.kind == "f" else np.zeros(0, bool)


def _filled(target: Target, name: str) -> np.ndarray:
    """An argument with the mean of its numbers in place of what is none."""
    array = np.asarray(target.kwargs[name])
    bad = ~np.isfinite(array)
    return np.where(bad, array[~bad].mean() if (~bad).any() else 1.0, array)


def _has_density(target: Target, instead: dict[str, Any]) -> bool:
    try:
        other = Target(target.model, target.args, dict(target.kwargs) | instead)
        starting_points(other, jax.random.key(0), 8)
    except Exception:  # a model may refuse what it is given here
        return False
    return True


def _traced(target: Target, more: dict[str, Any]) -> dict[str, dict]:
    found: list[dict] = []

    def visit() -> int:
        model = handlers.substitute(target.seeded, substitute_fn=init_to_uniform)
        found.append(handlers.trace(model).get_trace(*target.args, **target.kwargs, **more))
        return 0

    jax.eval_shape(visit)
    return found[0]


# --- a density that is another at every call ----------------------------------------------


class _Asked(Messenger):
    """Whether a model draws random numbers although every latent site has its value."""

    def __init__(self):
        super().__init__(None)
        self.asked = False

    def process_message(self, msg: dict) -> None:
        drawn = msg["type"] == "sample" and msg["value"] is None
        self.asked |= drawn or msg["type"] == "prng_key"


def _refuse_random_density(target: Target, points: Array) -> None:
    """Asked for twice, the density at one point must be one number."""
    # By the program that the run needs anyway, not operation by operation.
    asked, values = _Asked(), jax.tree.map(lambda a: a[0], target.complete(points[:1]).values)

    def visit() -> int:
        with asked:
            handlers.substitute(target.seeded, data=values)(*target.args, **target.kwargs)
        return 0

    jax.eval_shape(visit)
    # A network asks for a key to set itself up, which changes nothing.
    if asked.asked and not _same_at_two_keys(target, points):
        hidden = ", ".join(map(repr, _hidden_sites(target)))
        what = f"site {hidden}, hidden by handlers.block, is" if hidden else "random numbers are"
        raise InputError(
            f"the model's density is another at every call: {what} drawn inside it anew; make "
            f"what is random a latent site, or fix it outside the model"
        )


def _same_at_two_keys(target: Target, points: Array) -> bool:
    one, two = (
        values_and_slopes(
            Target(handlers.seed(target.model, key), target.args, target.kwargs),
            np.asarray(points[:2], float),
        )[0]
        for key in jax.random.split(jax.random.key(0))
    )
    return bool(np.allclose(one, two, rtol=1e-9, atol=1e-9))


def _hidden_sites(target: Target) -> list[str]:
    """Sites of the function inside the model's handlers that the model does not show."""
    model = inspect.unwrap(target.model, stop=lambda f: isinstance(f, Messenger))
    inner = model
    while isinstance(inner, Messenger):
        inner = inner.fn
    if inner is model:
        return []
    try:
        whole = _traced(Target(inner, target.args, target.kwargs), {})
    except Exception:  # what the handlers gave it may be needed to run
        return []
    shown = {site.name for site in target.sites}
    latent = (n for n, s in whole.items() if s["type"] == "sample" and not s["is_observed"])
    known = _traced(target, {})
    return [name for name in latent if name not in shown and name not in known]


# --- no finite mass -----------------------------------------------------------------------


def _refuse_infinite_mass(target: Target, points: np.ndarray, asked: Questions) -> None:
    log_p, slopes = values_and_slopes(target, points)
    flat = np.flatnonzero((slopes == 0).all(axis=0)).tolist()
    endless = [i for i in flat if _unchanged(target, points, log_p, i, asked.far, asked)]
    if endless:
        raise InputError(
            f"the density does not depend on {_named(target, endless, asked)} at all, so that its "
            f"mass is infinite; leave out what no data and no prior speak of, or give it a prior"
        )
    turning = list(_turning(target, points[: asked.points], log_p, asked))
    if turning:
        _, period = turning[0]
        raise InputError(
            f"the density repeats itself along {_named(target, [i for i, _ in turning], asked)} "
            f"with period {period:.4g}, so that its mass is infinite; bound the site (Uniform, "
            f"VonMises), or give it a prior"
        )


def _unchanged(
    target: Target, points: np.ndarray, log_p: np.ndarray, i: int, shifts, asked: Questions
) -> bool:
    """Whether log p is the same, but for rounding, after each shift of coordinate i."""
    every = []
    for shift in shifts:
        moved = points.copy()
        moved[:, i] += shift
        every.append(moved)
    there = values_and_slopes(target, np.concatenate(every))[0].reshape(len(shifts), -1)
    with np.errstate(invalid="ignore"):
        return bool((abs(there - log_p) <= asked.same * (1 + abs(log_p))).all())


def _turning(
    target: Target, points: np.ndarray, log_p: np.ndarray, asked: Questions
) -> Iterator[tuple[int, float]]:
    """Coordinates (and their periods) that a shift by a period does not change, in any
    direction, while a shift by a part of it does."""
    here = log_p[: len(points)]
    # A period leaves log p alone to rounding of the shifted number, not of log p only.
    loose, rough = replace(asked, same=1e-10), replace(asked, same=asked.differs)
    seen = set()
    for i, period in _candidates(target, points[0], log_p[0], loose):
        varies = not _unchanged(target, points, here, i, (0.37 * period,), rough)
        whole = (period, -period, 3 * period)
        if i not in seen and varies and _unchanged(target, points, here, i, whole, loose):
            seen.add(i)
            yield i, period


def _candidates(
    target: Target, point: np.ndarray, log_p: float, asked: Questions
) -> list[tuple[int, float]]:
    """Shifts of one coordinate by one period that leave log p at a point (d,) alone. Only a
    site that is the whole line can turn: elsewhere the Jacobian tells places apart."""
    real = [i for i, site in enumerate(target.owners) if site.is_real]
    shifts = [(i, period) for i in real for period in asked.periods]
    if not shifts:
        return []
    # In blocks: all of them would take the square of the dimension.
    size = max(1, asked.block // len(point))
    blocks = (shifts[k : k + size] for k in range(0, len(shifts), size))
    there = np.concatenate([_shifted(target, point, block) for block in blocks])
    with np.errstate(invalid="ignore"):
        same = abs(there - log_p) <= asked.same * (1 + abs(log_p))
    return [shift for shift, alike in zip(shifts, same, strict=True) if alike]


def _shifted(target: Target, point: np.ndarray, shifts: list[tuple[int, float]]) -> np.ndarray:
    """log p where one coordinate of a point (d,) has been moved, for every shift."""
    moved = np.tile(point, (len(shifts), 1))
    for row, (i, shift) in zip(moved, shifts, strict=True):
        row[i] += shift
    return values_and_slopes(target, moved)[0]


def _named(target: Target, coordinates: list[int], asked: Questions) -> str:
    """The entries of u by their sites: "y_unobserved[0], y_unobserved[1] and 4 more"."""
    names = [target.coordinates[i] for i in coordinates]
    more = len(names) - asked.names
    shown = ", ".join(names[: asked.names])
    return f"{shown} and {more} more" if more > 0 else shown


# --- what is good to know -----------------------------------------------------------------


def _circles(target: Target) -> Iterator[str]:
    for site in target.sites:
        if site.is_circle:
            yield f"site {site.name!r} is an angle: its ends −π and π are one place"


def _constants(target: Target) -> Iterator[str]:
    """Entries that are the same whatever u is, as the upper triangle of a Cholesky factor is."""
    drawn = target.complete(jax.random.normal(jax.random.key(0), (3, target.dim))).values
    for name, value in drawn.items():
        n = len(entries({name: value})) - len(margins({name: value}))
        if n:
            of = "entry" if n == 1 else "entries"
            yield f"{n} {of} of site {name!r} never vary, and are no margins"


def _blind_starts(target: Target, n: int = 16, same: float = 1e-9) -> Iterator[str]:
    """Whether the data say nothing where starts usually come from."""
    u = np.random.default_rng(0).uniform(-2.0, 2.0, (n, target.dim))
    found = np.asarray(jax.jit(jax.vmap(partial(_log_likelihood, target)))(u))
    flat = np.isfinite(found).all() and np.ptp(found) <= same * (1 + abs(found).max())
    if flat and found.any():  # nothing is observed where it is 0 everywhere
        yield (
            "the likelihood is the same all over U(−2, 2) of the unconstrained space, where starts "
            "usually come from; they are looked for further out. Bounds or a prior of the size "
            "that you expect would help"
        )


def _log_likelihood(target: Target, u: Array) -> Array:
    """Of the observed sites and factors at u (d,), ()."""
    each, trace = compute_log_probs(
        target.seeded, target.args, dict(target.kwargs), target.constrain(u)
    )
    return sum((each[name] for name in each if trace[name]["is_observed"]), jnp.zeros(()))
