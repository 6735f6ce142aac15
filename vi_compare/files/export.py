"""Draws of a fit, or of the target, written for other programs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import xarray as xr

from vi_compare.comparison.kept import KeptFit
from vi_compare.comparison.writing import write_file
from vi_compare.errors import InputError


def export(fit: KeptFit, to: Path, reweighted: bool = False) -> Path:
    """Write draws of a fit into a file, whole or not at all, in the form that its ending says.

    Args:
        fit: of a comparison; its reference, too.
        to: ``.nc`` with ArviZ's groups, ``.csv`` with a column an entry and a row a draw, ``.npz``
            with an array a site.
        reweighted: whether to resample them by their weights, as draws of the target.

    Raises:
        InputError: where the ending is of no form, the file cannot be written, or the weights
            cannot be used.
    """
    write = WRITERS.get(to.suffix.lower())
    if write is None:
        raise InputError(f"{to} must end in {', '.join(WRITERS)}; that says how draws are written")
    own = KeptFit(fit.name, _resampled(fit), fit.facts) if reweighted else fit
    return write_file(to, lambda path: write(path, own))


def _resampled(fit: KeptFit) -> xr.DataTree:
    held = {str(a.attrs.get("site", a.name)): a for a in fit.node["posterior"].data_vars.values()}
    draws = fit.reweighted()
    made = {
        a.name: ((("chain", "draw", *a.dims[2:])), draws[site][None], a.attrs)
        for site, a in held.items()
    }
    coords = {k: v for k, v in fit.node["posterior"].coords.items() if k not in ("chain", "draw")}
    n = len(next(iter(draws.values())))
    at = {"chain": [0], "draw": np.arange(n), **coords}
    return xr.DataTree.from_dict({"posterior": xr.Dataset(made, at)})


def _netcdf(path: Path, fit: KeptFit) -> None:
    fit.node.copy().to_netcdf(path, engine="h5netcdf")  # a tree of its own, without what is above


def _csv(path: Path, fit: KeptFit) -> None:
    import pandas as pd

    pd.DataFrame(fit.entries).to_csv(path, index=False)


def _npz(path: Path, fit: KeptFit) -> None:
    with path.open("wb") as file:
        np.savez(file, **fit.draws)  # type: ignore[arg-type]


WRITERS: dict[str, Callable[[Path, KeptFit], None]] = {
    ".nc": _netcdf,
    ".csv": _csv,
    ".npz": _npz,
}
