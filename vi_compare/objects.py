"""What somebody already has, judged: guides and parameters, results of SVI and MCMC, draws."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import singledispatch
from pathlib import Path
from typing import Any

import xarray as xr
from numpyro.infer import MCMC, SVI
from numpyro.infer.svi import SVIRunResult, SVIState

from vi_compare.comparison import Comparison
from vi_compare.errors import InputError, nearest
from vi_compare.files.draws import holds_draws
from vi_compare.run.labels import FitLabel, own_part, parse_label, parse_part
from vi_compare.run.plans import Given
from vi_compare.run.progress import Observer
from vi_compare.settings import Settings
from vi_compare.study import Study


def compare(
    model: Callable,
    *,
    data: Mapping[str, Any] | Sequence[Any] | Callable | None = None,
    fits: Mapping[str, Any] | Sequence[str] | str = (),
    reference: Any = None,
    seed: int = 0,
    draws: int | None = None,
    restarts: int | None = None,
    effort: str = "normal",
    float32: bool = False,
    observer: Observer | None = None,
    **study: Any,
) -> Comparison:
    """Judge fits of a model, those that somebody already has and others beside them. ::

        result = svi.run(key, 5_000, x, y)
        comparison = vi_compare.compare(
            model, data={"x": x, "y": y}, fits={"mine": (guide, result), "mvn": "mvn/reverse-kl"}
        )

    Args:
        model: a NumPyro model.
        data: its arguments, by name or one after another, or a function that returns them.
        fits: {name: fit}, in any mixture of
            a label of what to fit, ``"mvn/reverse-kl"``;
            ``(guide, params)`` with {parameter site: value}, as ``SVI.get_params`` has them;
            ``(guide, result)`` or ``(svi, result)`` with what ``SVI.run`` returned, or a state;
            ``(guide, "reverse-kl")``, a guide to be fitted; a guide alone stands for that;
            draws: a NumPyro ``MCMC``, ArviZ's tree or dataset, {site: (n, ...)} or
            {site: (chains, n, ...)}, the name of a file; a `Given`.
            Or a list of labels; empty for a default set.
        reference: draws of the target, in any of these forms, or "exact", "chains", "nuts",
            "none"; None for the best there is.
        seed, draws, restarts, effort, float32: as in `Settings`.
        observer: as in `Study.run`.
        study: further fields of `Study`: exact, quantities, judge, name, ...

    Raises:
        InputError: before any fit, when something given cannot be used.
    """
    wanted: Any = fits
    if isinstance(fits, Mapping):
        wanted = [_fit(fit, name) for name, fit in fits.items()]
    own = Study(model, data=_by_name(model, data), fits=wanted, **_known(study))
    settings = Settings(seed, draws, restarts, reference, effort, float32=float32)
    return own.run(settings, observer)


def _known(study: dict[str, Any]) -> dict[str, Any]:
    """Refuse what no study has."""
    fields = [name for name in inspect.signature(Study).parameters if name != "fits"]
    if unknown := [name for name in study if name not in fields]:
        raise InputError(f"compare has no argument {unknown[0]!r}; {nearest(unknown[0], fields)}")
    return study


def _by_name(model: Callable, data: Any) -> Any:
    """Arguments that are given one after another, by their names."""
    if not isinstance(data, tuple | list):
        return data
    try:
        return dict(inspect.signature(model).bind(*data).arguments)
    except (TypeError, ValueError) as error:
        raise InputError(f"data do not fit the model's arguments ({error}); give a dict") from None


@singledispatch
def _fit(fit: Any, name: str) -> FitLabel | Given:
    """What a study can be asked for, of what stands under a name."""
    if callable(fit):
        return _fit_of_guide("reverse-kl", fit, name)
    raise InputError(
        f"fits: {name!r} is a {type(fit).__name__}; give a label, (guide, params), "
        f"(guide, result of SVI), or draws"
    )


@_fit.register
def _(fit: Given, name: str) -> Given:
    return replace(fit, name=name)


@_fit.register(str)
@_fit.register(Path)
def _(fit: str | Path, name: str) -> FitLabel | Given:
    if holds_draws(str(fit)):
        return Given(name, draws=fit)
    return replace(parse_label(str(fit)), called=name)


@_fit.register(MCMC)
@_fit.register(Mapping)
@_fit.register(xr.DataTree)
@_fit.register(xr.Dataset)
def _(fit: Any, name: str) -> Given:
    return Given(name, draws=fit)


@_fit.register
def _(fit: tuple, name: str) -> FitLabel | Given:
    if len(fit) != 2 or isinstance(fit, SVIRunResult):
        raise InputError(
            f"fits: {name!r} holds {len(fit)} things; give (guide, what came of its fit)"
        )
    first, found = fit
    svi = first if isinstance(first, SVI) else None
    guide = svi.guide if svi else first
    if not callable(guide):
        raise InputError(f"fits: {name!r} begins with a {type(first).__name__}; give the guide")
    return _fit_of_guide(found, guide, name, svi)


@singledispatch
def _fit_of_guide(found: Any, guide: Callable, name: str, svi: SVI | None = None) -> Any:
    """The same of a guide, and of what was found for it."""
    raise InputError(
        f"fits: {name!r} has a {type(found).__name__} beside its guide; give its parameters, "
        f"what SVI.run returned, or a divergence such as 'reverse-kl'"
    )


@_fit_of_guide.register
def _(found: str, guide: Callable, name: str, svi: SVI | None = None) -> FitLabel:
    divergence, *solver = found.split("/")
    by = parse_part("solvers", solver[0]) if solver else None
    return FitLabel(own_part(name, guide), parse_part("divergences", divergence), by, name)


@_fit_of_guide.register
def _(found: Mapping, guide: Callable, name: str, svi: SVI | None = None) -> Given:
    return Given(name, guide, dict(found))


@_fit_of_guide.register
def _(found: SVIRunResult, guide: Callable, name: str, svi: SVI | None = None) -> Given:
    return Given(name, guide, dict(found.params))


@_fit_of_guide.register
def _(found: SVIState, guide: Callable, name: str, svi: SVI | None = None) -> Given:
    if svi is None:
        raise InputError(f"fits: {name!r} has a state of SVI; give (svi, state), not the guide")
    return Given(name, guide, dict(svi.get_params(found)))
