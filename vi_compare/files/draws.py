"""Draws that somebody else made, matched to the sites of a model."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from vi_compare.errors import InputError
from vi_compare.evidence import Draws
from vi_compare.files.chains import READERS, ApproximateDraws, Columns, read_chains
from vi_compare.files.found import Files, find_files, holds_files
from vi_compare.files.objects import chains_of
from vi_compare.psis import khat_limit, pareto_khat
from vi_compare.reference import check_draws
from vi_compare.target import Target
from vi_compare.verdict import Concern, Doubt


def holds_draws(name: str) -> bool:
    """Whether a word names files that can be read as draws."""
    return holds_files(name, READERS)


@dataclass(frozen=True)
class DrawsOfFiles:
    """What files of draws gave.

    Attributes:
        draws: one chain after another.
        divergences: share of transitions that diverged, None where it is not known.
        doubts: why these draws are not the target's.
        files: names of the files; none of an object.
        left_out: {what: rows of it} that were not read as draws.
    """

    draws: Draws
    divergences: float | None
    doubts: tuple[Doubt, ...]
    files: tuple[str, ...]
    left_out: Mapping[str, int]


def read_draws(given: Files | Any, target: Target, called: str = "the draws") -> DrawsOfFiles:
    """The draws of files, or of an object that holds some, as draws of `target`, one chain after
    another.

    Columns are matched to sites by name, small and capital letters apart: ``mu``,
    ``beta[0]``, ``beta[1,2]`` or ``beta.1.2``, counted from 0 or from 1. Columns that are no
    site of the model are ignored; warm-up and the mean of an approximation are left out.

    Args:
        given: a file, a folder, a pattern, or a list of these, for chains apart; or an MCMC
            that has run, ArviZ's tree, {site: (n, ...)} or {site: (chains, n, ...)}.
        target: whose draws they are.
        called: what errors call an object.

    Raises:
        InputError: when a file cannot be read, holds other parameters, too few draws, or
            values that are not finite or out of their support.
    """
    ranks = {site.name: len(site.shape) for site in target.sites}
    names: tuple[str, ...] = ()
    if not isinstance(given, str | Path | Sequence):
        who, held = called, chains_of(given, called, ranks)
    else:
        paths = find_files(given, READERS)
        who = str(paths[0]) if len(paths) == 1 else f"{paths[0]} and {len(paths) - 1} more"
        held = read_chains(paths, ranks)
        names = tuple(path.name for path in paths)
    if not held.columns:
        raise InputError(f"{who} holds none of the model's sites, {', '.join(ranks)}")
    chains, n = held.shape
    _refuse_short_chains(who, chains, n)
    values = {s.name: _site(who, held.columns, s.name, s.shape) for s in target.sites}
    flat = {name: value.reshape(chains * n, *value.shape[2:]) for name, value in values.items()}
    draws = check_draws(target, flat, chains * n, f"{who} holds")
    diverged, of = held.diverged
    return DrawsOfFiles(
        replace(draws, chains=chains),
        diverged / of if of else None,
        () if held.approximation is None else (_doubt(held.approximation),),
        names,
        held.left_out,
    )


def _refuse_short_chains(who: str, chains: int, n: int, least: int = 16) -> None:
    """Below `least` draws of each, a chain cannot be cut into parts and judged."""
    if chains > 1 and n < least:
        raise InputError(
            f"{who} holds {chains} chains of {n} draws, too short to be judged; give at least "
            f"{least} of each, or independent draws as one chain (are the axes draws × chains?)"
        )


def _doubt(approximation: ApproximateDraws) -> Doubt:
    """Draws of an approximation stand for the target as far as their own weights allow."""
    words = f"its draws come from an approximation ({approximation.method}), not from the target"
    w = approximation.log_weights
    if w.size and np.isfinite(w).all():
        khat, weights = pareto_khat(w), np.exp(w - w.max())
        worth = weights.sum() ** 2 / (weights**2).sum()
        words += f"; by its own weights its {w.size} draws are worth {worth:.0f}"
        if np.isfinite(khat):  # equal weights have no tail
            words += f", and k̂ is {khat:.2f} (good up to {khat_limit(w.size):.2f})"
    return Doubt(Concern.APPROXIMATION, words)


def _site(who: str, columns: Columns, name: str, shape: Sequence[int]) -> np.ndarray:
    """(chains, draws, *shape) of one site."""
    if name in columns:
        return _whole(who, columns[name], name, tuple(shape))
    parts = {index: value for label, value in columns.items() if (index := _index(label, name))}
    if not parts:
        held = ", ".join(list(columns)[:8])
        raise InputError(f"{who} holds no {name!r}, which the model has; it holds {held}")
    first = min(1, *(i for index in parts for i in index))
    wanted = list(np.ndindex(*shape))
    got = {tuple(i - first for i in index): value for index, value in parts.items()}
    if sorted(got) != sorted(wanted):
        raise InputError(
            f"{who} holds {len(got)} entries of {name!r}; the model's is of shape {shape}, "
            f"which has {len(wanted)}"
        )
    stacked = np.stack([_numbers(who, got[index], name) for index in wanted], axis=-1)
    return stacked.reshape(*stacked.shape[:2], *shape)


def _whole(who: str, value: np.ndarray, name: str, shape: tuple[int, ...]) -> np.ndarray:
    if value.shape[2:] != shape:
        raise InputError(f"{who} holds {name!r} of shape {value.shape[2:]}; the model's is {shape}")
    return _numbers(who, value, name)


def _numbers(who: str, value: np.ndarray, name: str) -> np.ndarray:
    if value.dtype.kind not in "biuf":
        raise InputError(f"{who} holds {name!r} as texts or dates; give numbers")
    return value.astype(float)


def _index(label: str, name: str) -> tuple[int, ...] | None:
    """``beta[1,2]`` or ``beta.1.2`` -> (1, 2), for the name ``beta``; None for others."""
    if not label.startswith(name):
        return None
    rest = label[len(name) :]
    if not re.fullmatch(r"\[\d+(,\s*\d+)*\]|(\.\d+)+", rest):
        return None
    return tuple(int(i) for i in re.findall(r"\d+", rest))
