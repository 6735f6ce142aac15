"""Reference: draws that stand for the truth, where they came from, whether to believe them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from numpyro import handlers

from vi_compare.errors import InputError
from vi_compare.evidence import Draws
from vi_compare.randomness import key_for
from vi_compare.reference.chains import Diagnosis, diagnose
from vi_compare.reference.stein import SteinCheck, stein_check
from vi_compare.reference.trail import Trail
from vi_compare.target import Target
from vi_compare.verdict import FOR_LONGER, Concern, Doubt

PARTS = ("train", "test", "floor", "bridge")


@dataclass(frozen=True)
class Passage:
    """The ways that short chains went which began inside and outside."""

    inside: Trail
    outside: Trail


@dataclass(frozen=True)
class Reference:
    """Sets of draws of the target, shared by every fit. What anything is measured on shares no
    draw with what was fitted to, nor with what its noise is judged by.

    Attributes:
        source: "exact", "chains", "nuts" or "file".
        train: for forward KL.
        test: for metrics; disjoint from `train` and `floor`.
        floor: a second test set, for noise floors, and for what log Z is bridged to.
        bridge: for log Z; disjoint from `train`, `floor` and `pilot`.
        pilot: for choosing what to bridge to.
        check: the Stein check of `test`.
        diagnosis: R-hat, ESS, divergences of Markov chains; None for independent draws.
        settings: how the draws were made, as plain data.
        own_doubts: what is held against where they come from.
        passage: of short chains; None for other sources.
    """

    source: str
    train: Draws
    test: Draws
    floor: Draws
    bridge: Draws
    pilot: Draws
    check: SteinCheck
    diagnosis: Diagnosis | None = None
    settings: dict[str, Any] = field(default_factory=dict)
    own_doubts: tuple[Doubt, ...] = ()
    passage: Passage | None = None

    @property
    def doubts(self) -> tuple[Doubt, ...]:
        """Why it should not be believed; empty when nothing is held against it."""
        found = self.own_doubts
        if self.diagnosis is not None:
            found += self.diagnosis.doubts
        if self.check.passed:
            return found
        return (*found, Doubt(Concern.STEIN, f"Stein's check fails: {self.check.words}"))

    @property
    def is_unfinished(self) -> bool:
        """Whether nothing is held against it but that chains have not gone far enough."""
        return bool(self.doubts) and {doubt.kind for doubt in self.doubts} <= FOR_LONGER


def exact_reference(target: Target, exact: Callable, seed: int, n: int) -> Reference:
    """Draws of a script's ``exact(key, n)``, each part from a key of its own.

    Raises:
        InputError: when what it returns does not fit the model's sites, is not finite,
            or is not a sample of the model.
    """
    draw = lambda part: _exact_draws(target, exact, key_for(seed, f"reference/{part}"), n)
    test = draw("test")
    check = stein_check(target, test)
    if not check.passed:
        raise InputError(
            f"exact(key, n) does not draw from the model: {check.words}; compare the "
            f"distributions and parameters in exact with those in model"
        )
    # log Z is known of a normalised target, so nothing has to be bridged.
    bridge = test if target.normalised else draw("bridge")
    train = draw("train")
    return Reference("exact", train, test, draw("floor"), bridge, train, check)


def by_running_the_model(target: Target) -> Callable:
    """``exact(key, n) -> {site: (n, ...)}`` of a target of which nothing is observed."""

    def once(key: Array) -> dict[str, Array]:
        model = handlers.seed(target.model, key)
        trace = handlers.trace(model).get_trace(*target.args, **target.kwargs)
        return {site.name: trace[site.name]["value"] for site in target.sites}

    # Operation by operation: compiled as one program, every site would bring its own copy of the
    # random number generator, at half a second each; alone, sites of one shape share it.
    many = jax.vmap(once)
    return lambda key, n: many(jax.random.split(key, n))


def from_chains(
    source: str,
    target: Target,
    chains: Draws,
    divergences: float | None,
    settings: dict[str, Any],
) -> Reference:
    """Markov chains as a reference, a quarter of every chain to each part.

    Args:
        chains: all draws; ``chains.chains`` of them, one chain after another.
        divergences: share of transitions that diverged, None where it is not known.
        settings: of what made them, as plain data.
    """
    train, test, floor, bridge = (part(chains, i) for i in range(len(PARTS)))
    diagnosis = diagnose(chains, test, divergences)
    check = stein_check(target, test)
    return Reference(source, train, test, floor, bridge, train, check, diagnosis, settings)


def from_given(
    target: Target,
    draws: Draws,
    divergences: float | None,
    settings: dict[str, Any],
    doubts: tuple[Doubt, ...] = (),
) -> Reference:
    """Draws made elsewhere as a reference. They cannot be drawn again, so that no more is cut
    off than has to be: the first quarter of every chain, for what is fitted to draws and for
    noise floors. All the rest is measured on.

    Args:
        draws: all of them; ``draws.chains`` chains, one after another.
        divergences: share of transitions that diverged, None where it is not known.
        settings: of what made them, as plain data.
        doubts: what is held against where they come from.
    """
    quarter = 1 / len(PARTS)
    train, test = block(draws, 0, quarter), block(draws, quarter, 1)
    # Both are part of `test`: log Z needs draws that no proposal has been fitted to.
    pilot, bridge = block(draws, quarter, 2 * quarter), block(draws, 2 * quarter, 1)
    diagnosis = diagnose(draws, test, divergences)
    check = stein_check(target, test)
    return Reference(
        "file", train, test, train, bridge, pilot, check, diagnosis, settings, doubts
    )  # fmt: skip


def block(draws: Draws, begin: float, end: float) -> Draws:
    """The draws between two shares of the length of every chain."""
    index = draws.by_chain
    first, last = (round(share * index.shape[1]) for share in (begin, end))
    return _rows(draws, index[:, first:last])


def _rows(draws: Draws, rows: np.ndarray) -> Draws:
    """Some draws (chains, n) of every chain."""
    own = draws[rows.reshape(-1)]
    return replace(own, chains=len(rows) if draws.chains else 0)


def part(draws: Draws, i: int) -> Draws:
    """The i-th quarter of every chain, so that every part sees every place that some chain is
    in; independent draws are cut into four blocks."""
    return block(draws, i / len(PARTS), (i + 1) / len(PARTS))


def _exact_draws(target: Target, exact: Callable, key: Array, n: int) -> Draws:
    values = exact(key, n)
    if not isinstance(values, dict):
        kind = type(values).__name__
        raise InputError(f"exact(key, n) returns a {kind}; return a dict {{site: (n, ...)}}")
    return check_draws(target, values, n, "exact(key, n) returns")


def check_draws(
    target: Target, values: dict[str, Any], n: int, who: str, least: int = 400
) -> Draws:
    """Values {site: (n, ...)} as draws of the target, with u and log p.

    Args:
        least: smallest number of draws, the ESS that a reference must have.

    Raises:
        InputError: when sites are missing, unknown, of wrong shapes, not finite, or out of
            their support, or draws too few; the sentence begins with `who`.
    """
    _fit_sites(target, values, n, who)
    if n < least:
        raise InputError(f"{who} {n} draws, which are too few; give at least {least}")
    draws = target.draws({site.name: jnp.asarray(values[site.name]) for site in target.sites})
    ok = np.isfinite(np.asarray(draws.log_p)) & np.isfinite(np.asarray(draws.u)).all(axis=1)
    if not ok.all():
        bad = int((~ok).sum())
        raise InputError(
            f"{who} {bad} of {n} draws to which the model gives no density; "
            f"check the supports and parameters of its sites"
        )
    _refuse_frozen(target, draws, who)
    return draws


def _refuse_frozen(target: Target, draws: Draws, who: str) -> None:
    """Refuse draws in which an entry never varies that the model lets vary. Over u there is no
    other: the upper triangle of a Cholesky factor is not part of it."""
    fixed = np.ptp(np.asarray(draws.u), axis=0) == 0
    owners = [site.name for site in target.sites for _ in range(site.size)]
    if fixed.any():
        raise InputError(
            f"{who} draws of {owners[int(fixed.argmax())]!r} that are all the same; give draws of "
            f"its whole distribution"
        )


def _fit_sites(target: Target, values: dict[str, Any], n: int, who: str) -> None:
    """Refuse values that are not {site: (n, ...)} of the target's sites.

    Raises:
        InputError: naming the site.
    """
    wanted = {site.name: (n, *site.shape) for site in target.sites}
    if missing := sorted(wanted.keys() - values.keys()):
        raise InputError(
            f"{who} no {', '.join(map(repr, missing))}; "
            f"the model's sites are {', '.join(map(repr, wanted))}"
        )
    if extra := sorted(values.keys() - wanted.keys()):
        raise InputError(
            f"{who} {', '.join(map(repr, extra))}, which the model does not have; "
            f"its sites are {', '.join(map(repr, wanted))}"
        )
    for name, shape in wanted.items():
        if jnp.shape(values[name]) != shape:
            raise InputError(
                f"{who} {name!r} of shape {jnp.shape(values[name])} for n = {n}; it must be {shape}"
            )
        if not np.isfinite(np.asarray(values[name])).all():
            raise InputError(f"{who} values of {name!r} that are NaN or infinite")
