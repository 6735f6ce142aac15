"""Draws as files hold them, chain by chain, not yet those of a model."""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from vi_compare.errors import InputError
from vi_compare.files import json_text
from vi_compare.files.cmdstan import Approximate, approximate, read_comments
from vi_compare.files.tables import read_by_ending, read_table

# {name: (chains, draws, ...)}
Columns = dict[str, np.ndarray]
# {site: number of axes of a value}, by which an array tells whether it has an axis of chains.
Ranks = Mapping[str, int]


@dataclass(frozen=True)
class ApproximateDraws:
    """What draws are that come from an approximation.

    Attributes:
        method: "variational".
        log_weights: (n,) log p − log q at the draws, up to a constant; empty if not known.
    """

    method: str
    log_weights: np.ndarray


@dataclass(frozen=True)
class Chains:
    """What files hold.

    Attributes:
        columns: {name: (chains, draws, ...)}.
        diverged: transitions that diverged, of how many; (0, 0) where it is not said.
        approximation: set where the draws are not the target's.
        left_out: {what: rows of it} that were not read as draws.
    """

    columns: Columns
    diverged: tuple[int, int] = (0, 0)
    approximation: ApproximateDraws | None = None
    left_out: Mapping[str, int] = field(default_factory=dict)

    @property
    def shape(self) -> tuple[int, int]:
        """Chains, and draws of each."""
        first = next(iter(self.columns.values()))
        return first.shape[0], first.shape[1]


def read_chains(paths: Sequence[Path], ranks: Ranks) -> Chains:
    """The draws of one or several files, all chains of the same length.

    Args:
        ranks: {site of the model: number of axes of its value}.

    Raises:
        InputError: when a file cannot be read, or the chains do not fit together.
    """
    readers = {ending: partial(reader, ranks=ranks) for ending, reader in READERS.items()}
    parts = []
    for path in paths:
        part = read_by_ending(path, readers, "draws are")
        if not part.columns or not all(part.shape):
            raise InputError(f"{path} holds no draws")
        parts.append(part)
    return parts[0] if len(parts) == 1 else _joined(paths, parts)


def _joined(paths: Sequence[Path], parts: Sequence[Chains]) -> Chains:
    """The chains of all files; columns that one of them lacks are left out."""
    lengths = [part.shape[1] for part in parts]
    if len(set(lengths)) > 1:
        short, long = lengths.index(min(lengths)), lengths.index(max(lengths))
        raise InputError(
            f"{paths[short]} holds {lengths[short]} draws and {paths[long]} {lengths[long]}; "
            f"cut the chains to one length"
        )
    held = [n for n in parts[0].columns if all(n in part.columns for part in parts)]
    try:
        columns = {n: np.concatenate([part.columns[n] for part in parts]) for n in held}
    except ValueError:
        raise InputError(
            f"{paths[0]} and the other files hold values of different shapes; give the chains "
            f"of one model"
        ) from None
    made = [part.approximation for part in parts if part.approximation]
    weights = np.concatenate([a.log_weights for a in made]) if made else np.zeros(0)
    approximation = ApproximateDraws(made[0].method, weights) if made else None
    what = dict.fromkeys(what for part in parts for what in part.left_out)
    left_out = {w: sum(part.left_out.get(w, 0) for part in parts) for w in what}
    diverged = (sum(p.diverged[0] for p in parts), sum(p.diverged[1] for p in parts))
    return Chains(columns, diverged, approximation, left_out)


# --- what is no site ----------------------------------------------------------------------

# What divergent transitions are called by ArviZ, NumPyro and PyMC, and by Stan.
DIVERGING = ("diverging", "divergent__", "divergent")


def with_divergences(
    columns: Columns, ranks: Ranks, beside: Mapping[str, Any] = MappingProxyType({})
) -> Chains:
    """Chains whose divergences stand among the columns, or `beside` them."""
    named = {n: v for n, v in (*columns.items(), *beside.items()) if n not in ranks}
    flags = next((np.asarray(named[n]) for n in DIVERGING if n in named), np.zeros(0))
    return Chains(columns, (int(np.count_nonzero(flags)), flags.size))


def chained(path: str | Path, arrays: Mapping[str, Any], ranks: Ranks) -> Columns:
    """Arrays (draws, ...) of one chain, or (chains, draws, ...); which of them it is, the
    sites tell. Entries of a site (``beta[0]``) are numbers."""
    held = {name: _array(path, name, value) for name, value in arrays.items()}
    own = {name: v.ndim - ranks[name] for name, v in held.items() if name in ranks}
    if wrong := next((name for name, axes in own.items() if axes not in (1, 2)), None):
        raise InputError(
            f"{path}: {wrong!r} is of shape {held[wrong].shape}, and a value of the model has "
            f"{ranks[wrong]} axes; give (draws, ...) or (chains, draws, ...)"
        )
    if len(set(own.values())) > 1:
        raise InputError(
            f"{path}: some sites have an axis of chains and others not; give all as "
            f"(chains, draws, ...)"
        )
    axes = next(iter(own.values()), min((v.ndim for v in held.values() if v.ndim), default=1))
    lead = lambda v: v if axes > 1 else v[None]
    columns = {name: lead(v) for name, v in held.items() if v.ndim >= axes}
    _refuse_other_lengths(path, columns, own)
    first = next((columns[n].shape[:2] for n in own or columns), None)
    return {n: v for n, v in columns.items() if v.shape[:2] == first}


def _refuse_other_lengths(path: str | Path, columns: Columns, sites: Mapping[str, int]) -> None:
    shapes = {columns[name].shape[:2]: name for name in sites}
    if len(shapes) > 1:
        said = ", ".join(f"{name!r} {c} × {n}" for (c, n), name in shapes.items())
        raise InputError(f"{path}: chains × draws differ between sites ({said}); write them anew")


def _array(path: str | Path, name: str, value: Any) -> np.ndarray:
    """The value as numbers; what is none is of interest only where it is a site."""
    try:
        array = np.asarray(value)
        return array.astype(float) if array.dtype == object else array
    except OverflowError:
        raise InputError(f"{path}: {name!r} holds a number beyond 1.8e308") from None
    except (TypeError, ValueError):
        raise InputError(
            f"{path}: {name!r} is no array of numbers; its chains or draws may be of "
            f"different lengths: cut them to one"
        ) from None


# --- one file -----------------------------------------------------------------------------


def _netcdf(path: Path, *, ranks: Ranks) -> Chains:
    """ArviZ, as ``InferenceData`` or ``DataTree``: a group ``posterior`` with dimensions chain
    and draw, or sample; or a dataset of that kind by itself. Groups of warm-up are not read."""
    import xarray as xr

    with xr.open_datatree(path, engine="h5netcdf") as tree:
        return of_tree(path, tree, ranks)


def of_tree(who: str | Path, tree: Any, ranks: Ranks) -> Chains:
    """The same of ArviZ's tree, or of a dataset, in memory; `who` is what errors call it."""
    groups = getattr(tree, "children", {})
    posterior = tree["posterior"].to_dataset() if "posterior" in groups else _dataset(tree)
    stats = tree["sample_stats"].to_dataset() if "sample_stats" in groups else {}
    beside = {str(n): stats[n].values for n in DIVERGING if n in stats}
    posterior = _in_chains(who, posterior.load())
    # Who may not write a site's name as a variable's keeps it beside.
    columns = {
        str(v.attrs.get("site", name)): v.transpose("chain", "draw", ...).values
        for name, v in posterior.data_vars.items()
        if {"chain", "draw"} <= set(v.dims)
    }
    return with_divergences(columns, ranks, beside)


def _dataset(tree: Any) -> Any:
    return tree.to_dataset() if hasattr(tree, "to_dataset") else tree


def _in_chains(path: str | Path, posterior: Any) -> Any:
    """The dataset with dimensions chain and draw; what was stacked is one chain, or those of
    its coordinates."""
    dims = set(posterior.dims)
    if {"chain", "draw"} <= dims:
        return posterior
    if "chain" not in dims and "draw" in dims:
        return posterior.drop_vars("chain", errors="ignore").expand_dims("chain")
    if "sample" not in dims:
        raise InputError(
            f"{path} has no group posterior with dimensions chain and draw; write it by "
            f"arviz's to_netcdf"
        )
    if {"chain", "draw"} <= set(posterior.coords):
        return posterior.set_index(sample=["chain", "draw"]).unstack("sample")
    return posterior.rename(sample="draw").expand_dims("chain")


def _csv(path: Path, *, ranks: Ranks) -> Chains:
    """A row a draw; a column ``chain`` (``.chain``, ``chain__``) tells chains apart."""
    whole, comments = read_table(path), read_comments(path)
    made = approximate(comments, whole)
    first = made.means if made else comments.warmup
    what = "rows of the approximation's mean" if made else "draws of the warm-up"
    table = {name: column[first:] for name, column in whole.items()}
    name = next((n for n in table if n not in ranks and n.strip("._").lower() == "chain"), None)
    chain = table[name] if name else np.zeros(len(next(iter(table.values()))))
    rows = [chain == c for c in np.unique(chain)]
    if len({int(row.sum()) for row in rows}) > 1:
        raise InputError(f"{path}: its chains are of different lengths; cut them to one")
    columns = {n: np.stack([column[row] for row in rows]) for n, column in table.items()}
    found = with_divergences(columns, ranks)
    approximation = _weighed(made, table) if made else None
    return replace(found, approximation=approximation, left_out={what: first} if first else {})


def _weighed(made: Approximate, table: Mapping[str, np.ndarray]) -> ApproximateDraws:
    known = made.log_p in table and made.log_q in table
    weights = table[made.log_p] - table[made.log_q] if known else np.zeros(0)
    return ApproximateDraws(made.method, weights)


def _npz(path: Path, *, ranks: Ranks) -> Chains:
    """NumPyro: ``np.savez(path, **mcmc.get_samples())``, by chain or not."""
    with np.load(path) as held:
        columns = chained(path, {name: held[name] for name in held.files}, ranks)
    return with_divergences(columns, ranks)


def _json(path: Path, *, ranks: Ranks) -> Chains:
    """posteriordb: a list of chains, each {parameter: [draws]}; ArviZ's ``to_json``; or
    {parameter: draws} by itself."""
    read = json_text.parse(_unzipped(path), str(path))
    if isinstance(read, Mapping) and isinstance(read.get("posterior"), Mapping):
        stats = read.get("sample_stats")
        beside = dict(stats) if isinstance(stats, Mapping) else {}
        return with_divergences(chained(path, read["posterior"], ranks), ranks, beside)
    if isinstance(read, Mapping):
        return with_divergences(chained(path, read, ranks), ranks)
    if not isinstance(read, list) or not all(isinstance(c, Mapping) for c in read):
        raise InputError(f"{path} must be a list of chains, each {{parameter: [draws]}}")
    names = list(read[0]) if read else []
    if odd := [i for i, chain in enumerate(read) if set(chain) != set(names)]:
        raise InputError(
            f"{path}: chain {odd[0] + 1} holds other parameters than the first; write them anew"
        )
    for name in names:
        lengths = [len(c[name]) if isinstance(c[name], list) else 0 for c in read]
        if min(lengths) < max(lengths) or not max(lengths):
            raise InputError(
                f"{path}: {name!r} must be a list of draws in every chain, all of one length; "
                f"they are of {', '.join(map(str, sorted(set(lengths))))}"
            )
    columns = {name: _array(path, name, [c[name] for c in read]) for name in names}
    return with_divergences(columns, ranks)


def _unzipped(path: Path) -> bytes:
    if not path.name.lower().endswith(".zip"):
        return path.read_bytes()
    with zipfile.ZipFile(path) as archive:
        names = [name for name in archive.namelist() if name.endswith(".json")]
        if len(names) != 1:
            raise InputError(f"{path} holds {len(names)} JSON files; it must hold one")
        return archive.read(names[0])


READERS: dict[str, Callable[..., Chains]] = {
    ".nc": _netcdf,
    ".csv": _csv,
    ".npz": _npz,
    ".json.zip": _json,
    ".json": _json,
}
