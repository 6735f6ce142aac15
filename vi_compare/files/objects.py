"""Draws as objects in memory hold them: of NumPyro, of ArviZ, or arrays by name."""

from __future__ import annotations

from collections.abc import Mapping
from functools import singledispatch
from typing import Any

import numpy as np
import xarray as xr
from numpyro.infer import MCMC

from vi_compare.errors import InputError
from vi_compare.files.chains import DIVERGING, Chains, Ranks, chained, of_tree, with_divergences
from vi_compare.values import reals


def is_object(given: Any) -> bool:
    """Whether it is of a kind that holds draws."""
    return chains_of.dispatch(type(given)) is not chains_of.dispatch(object)


@singledispatch
def chains_of(given: Any, who: str, ranks: Ranks) -> Chains:
    """What an object holds; errors begin with `who`.

    Raises:
        InputError: when it holds no draws, or their shapes do not fit the model.
    """
    raise InputError(
        f"{who} is a {type(given).__name__}; give an MCMC that has run, ArviZ's tree, or "
        f"{{site: (n, ...)}}"
    )


@chains_of.register
def _(given: MCMC, who: str, ranks: Ranks) -> Chains:
    try:
        held = given.get_samples(group_by_chain=True)
        beside = given.get_extra_fields(group_by_chain=True)
    except Exception as error:  # it has run nothing yet
        raise InputError(f"{who} is an MCMC that has not run; call its run first") from error
    if not isinstance(held, Mapping):
        raise InputError(f"{who} is an MCMC of a potential function; give {{site: (n, ...)}}")
    columns = {name: np.asarray(value) for name, value in held.items() if name in ranks}
    return with_divergences(columns, ranks, {n: beside[n] for n in DIVERGING if n in beside})


@chains_of.register(xr.DataTree)
@chains_of.register(xr.Dataset)
def _(given: xr.DataTree | xr.Dataset, who: str, ranks: Ranks) -> Chains:
    return of_tree(who, given, ranks)


@chains_of.register
def _(given: Mapping, who: str, ranks: Ranks) -> Chains:
    if not given:
        raise InputError(f"{who} is empty; give {{site: (n, ...)}}")
    # What is no site of the model may be anything.
    held = {n: reals(v, f"{who}: {n}") if n in ranks else v for n, v in given.items()}
    if few := [name for name in held if name in ranks and not np.size(held[name]) > 1]:
        raise InputError(f"{who} holds {few[0]!r} of {np.size(held[few[0]])} draws, too few")
    return with_divergences(chained(who, held, ranks), ranks)
