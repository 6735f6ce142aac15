"""Several restarts of one fit: which is best, and which ended at the same optimum."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from vi_compare.approximation import GuideApproximation
from vi_compare.batches import by_rows
from vi_compare.evidence import Draws
from vi_compare.randomness import split
from vi_compare.solvers import Restart

# Two restarts found the same optimum when the fits differ by less than this many nats
# of symmetrised KL: far above the noise left in a converged fit, far below a mode.
SAME_BASIN = 0.05


@dataclass(frozen=True)
class Selection:
    """Tunables of the choice among restarts.

    Attributes:
        draws: number of draws that decide when they can.
        final_draws: number of draws for the optima that these leave undecided.
        finalists: maximum number of such optima; also the restarts of one compiled call.
        near: an optimum is undecided within this many paired standard errors of the best.
        columns: maximum number of estimates of one compiled call.
    """

    draws: int = 2048
    final_draws: int = 65_536
    finalists: int = 4
    near: float = 4.0
    columns: int = 64


def evaluate(
    divergence,
    stacked: GuideApproximation,
    key: Array,
    n: int,
    selection: Selection = Selection(),
) -> np.ndarray:
    """Independent estimates (R, m) of every restart's divergence, n draws in all, in nats.

    All restarts see the same random numbers, so differences between them are paired.
    `stacked` holds the parameters of the restarts on a leading axis.
    """
    repeats = max(2, n // divergence.num_particles)
    columns = min(selection.columns, repeats)

    def some(few):
        starts = range(0, repeats, columns)
        found = [np.asarray(_estimates(divergence, columns, few, key, c)) for c in starts]
        return np.concatenate(found, axis=1)[:, :repeats]

    # The first look at all restarts and the last one at a few are one shape, compiled once.
    return by_rows(some, stacked, selection.finalists)


@partial(jax.jit, static_argnums=(0, 1))
def _estimates(divergence, m: int, stacked: GuideApproximation, key: Array, first: int) -> Array:
    """Estimates (R, m), those of numbers `first` to `first` + m − 1."""
    keys = jax.vmap(partial(jax.random.fold_in, key))(first + jnp.arange(m))
    one = lambda q, key: divergence.estimate(key, q, stacked.target)
    return jax.vmap(jax.vmap(one, (None, 0)), (0, None))(stacked, keys)


def choose(
    divergence,
    stacked: GuideApproximation,
    alive: np.ndarray,
    key: Array,
    selection: Selection = Selection(),
) -> tuple[int | None, list[Restart], int]:
    """The best restart, judged by draws it has not seen; how every restart ended; and the
    number of draws used, all restarts together.

    2,048 draws decide when they can. Where another optimum is within 4 standard errors of
    the paired difference, the best restart of each such optimum is judged again on 65,536.
    `alive` (R,) tells which restarts did not fail.
    """
    first_key, second_key, basin_key = split(key, 3)
    values = evaluate(divergence, stacked, first_key, selection.draws, selection)
    values[~alive] = np.nan
    loss, error = _mean(values)
    spent = selection.draws * len(loss)
    if not np.isfinite(loss).any():
        return None, [_lost() for _ in loss], spent
    basin = basins(jeffreys(stacked, basin_key), loss)
    final = _finalists(values, basin, selection)
    if len(final) > 1:
        few = jax.tree.map(lambda leaf: np.asarray(leaf)[final], stacked)
        finer = evaluate(divergence, few, second_key, selection.final_draws, selection)
        loss, error = _refine(values, basin, final, finer)
        spent += selection.final_draws * selection.finalists
    order = sorted(
        {b for b in basin if b is not None}, key=lambda b: loss[_leader(values, basin, b)]
    )
    ended = [
        Restart(float(loss[r]), float(error[r]), order.index(b), "finished")
        if b is not None
        else _lost()
        for r, b in enumerate(basin)
    ]
    return _leader(values, basin, order[0]), ended, spent


def _lost() -> Restart:
    return Restart(None, None, None, "its loss is not finite")


def _mean(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Means (R,) of values (R, m) and their standard errors."""
    return values.mean(axis=1), values.std(axis=1, ddof=1) / np.sqrt(values.shape[1])


def _leader(values: np.ndarray, basin: list[int | None], b: int) -> int:
    """The restart of lowest loss in one optimum."""
    members = [r for r, other in enumerate(basin) if other == b]
    return min(members, key=lambda r: values[r].mean())


def _finalists(values: np.ndarray, basin: list[int | None], selection: Selection) -> list[int]:
    """The leaders of the optima that `selection.near` leaves undecided, the best first."""
    leaders = [_leader(values, basin, b) for b in range(max(b for b in basin if b is not None) + 1)]
    gaps, errors = _mean(values[leaders] - values[leaders[0]])
    near = [
        r
        for r, gap, error in zip(leaders, gaps, errors, strict=True)
        if gap <= selection.near * error
    ]
    return near[: selection.finalists]


def _refine(
    values: np.ndarray, basin: list[int | None], final: list[int], finer: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Losses and errors (R,) after the finalists `final` were judged again by `finer`.

    Other restarts of a finalist's optimum keep their paired difference from it; other optima
    stay as they were.
    """
    loss, error = _mean(values)
    means, errors = _mean(finer)
    for leader, mean, se in zip(final, means, errors, strict=True):
        members = [r for r, b in enumerate(basin) if b == basin[leader]]
        gap, gap_se = _mean(values[members] - values[leader])
        loss[members], error[members] = mean + gap, np.hypot(se, gap_se)
    return loss, error


def basins(distance: np.ndarray, losses: np.ndarray) -> list[int | None]:
    """Which restarts found the same optimum: numbers by loss, None where not finite.

    Two are the same when their symmetrised KL (R, R), as `jeffreys` has it, is below
    `SAME_BASIN`; this is blind to the order of a mixture's components.
    """
    alive = np.flatnonzero(np.isfinite(losses))
    label: list[int | None] = [None] * len(losses)
    ranked = sorted(alive, key=lambda r: losses[r])
    found = grouped(ranked, lambda leader, r: bool(distance[leader, r] < SAME_BASIN))
    for r, basin in zip(ranked, found, strict=True):
        label[r] = basin
    return label


def grouped[T](ranked: Sequence[T], same: Callable[[T, T], bool]) -> list[int]:
    """Which optimum each of `ranked`, best first, is at: 0, 1, ... by their leaders.

    One belongs to the first leader with ``same(leader, one)``, or leads the next optimum.
    """
    leaders: list[T] = []
    out = []
    for one in ranked:
        known = (b for b, leader in enumerate(leaders) if same(leader, one))
        out.append(next(known, len(leaders)))
        if out[-1] == len(leaders):
            leaders.append(one)
    return out


def side_by_side(losses: Sequence[Sequence[float] | np.ndarray]) -> np.ndarray:
    """(R, steps) from the losses of R runs of different lengths; NaN after the last of each."""
    most = max(map(len, losses))
    out = np.full((len(losses), most), np.nan)
    for row, one in zip(out, losses, strict=True):
        row[: len(one)] = one
    return out


def jeffreys(stacked: GuideApproximation, key: Array, n: int = 250) -> np.ndarray:
    """Symmetrised KL (R, R) between the restarts, in nats, on n draws of each.

    All restarts share their random numbers: between two fits that hardly differ, the noise of
    one direction cancels that of the other. With 250 draws, 16 restarts fill two batches.
    """
    u = np.stack([np.asarray(q.points(key, n)) for q in _apart(stacked)])
    pooled = jnp.asarray(u.reshape(-1, u.shape[-1]))
    log_q = log_probs(stacked, pooled).reshape(-1, *u.shape[:2])
    own = np.diagonal(log_q).T  # of log_q [q, drawn from, draw]
    kl = (own[:, None] - np.swapaxes(log_q, 0, 1)).mean(-1)  # mean log-density ratios
    return kl + kl.T


def log_probs(stacked: GuideApproximation, u: Array) -> np.ndarray:
    """log q (R, n) of every restart at the points u (n, d)."""
    return np.stack([np.asarray(q.at(Draws(u, {})).log_q) for q in _apart(stacked)])


def _apart(stacked: GuideApproximation) -> list[GuideApproximation]:
    """The restarts one by one: what is compiled to measure the chosen one serves all of them,
    where all at once would be other programs to trace and compile."""
    params = jax.tree.map(np.asarray, stacked)
    restarts = range(len(jax.tree.leaves(params)[0]))
    return [jax.tree.map(lambda leaf, r=r: leaf[r], params) for r in restarts]
