"""Study: what to compare. Running it gives a Comparison: what came out."""

from __future__ import annotations

import inspect
import runpy
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax import Array

from vi_compare import catalogue, formatting
from vi_compare.divergences.reverse_kl import ReverseKL
from vi_compare.errors import InputError, blamed, guarded, nearest
from vi_compare.files.data import FileData, entries
from vi_compare.files.draws import read_draws
from vi_compare.randomness import key_for
from vi_compare.reference import (
    PARTS,
    Reference,
    by_running_the_model,
    exact_reference,
    from_given,
)
from vi_compare.reference.nuts import nuts_reference
from vi_compare.reference.nuts_chains import Sampling
from vi_compare.reference.settled import chains_reference
from vi_compare.reference.short_chains import can_move, within
from vi_compare.report import Comparison
from vi_compare.run.draws import refuse_what_cannot_be_kept
from vi_compare.run.fitted import reopened
from vi_compare.run.identity import (
    all_gaps,
    missing_argument,
    missing_values,
    refuse_what_has_no_answer,
)
from vi_compare.run.labels import NO_GUIDES, FitLabel, Guides, check_guides
from vi_compare.run.ladder import LADDER, Ladder
from vi_compare.run.memory import require_device, require_for_draws
from vi_compare.run.plans import Given, Planner, as_wanted, stand_in
from vi_compare.run.prepared import Prepared
from vi_compare.run.progress import Observer, Silent, watching
from vi_compare.run.published import Published, check_published
from vi_compare.settings import DRAWS, EFFORTS, Settings
from vi_compare.solvers._work import Budget
from vi_compare.starts import starting_points
from vi_compare.target import Target
from vi_compare.target.naming import Naming
from vi_compare.target.work import afforded
from vi_compare.timing import timed
from vi_compare.values import check_text, check_whole, listed

# What may stand in a study's lists, what the lists are called, and what is right.
_FITS = (
    str | Path | FitLabel | Given,
    "fits",
    "give labels such as 'mvn/reverse-kl', files of draws or Given(...)",
)
_JUDGE = str, "judge", "give names of sites and quantities"
_PUBLISHED = Published, "published", "give Published(...)"


@dataclass(frozen=True)
class Study:
    """A model and the approximations of it to compare.

    Attributes:
        model: a NumPyro model.
        data: its keyword arguments, or a function that returns them.
        exact: ``exact(key, n) -> {site: (n, ...)}``, draws of the target.
        fits: labels such as "mixture:2/reverse-kl", and `Given` parameters; "auto", or nothing,
            for a ladder of guides that ends at the first which is Faithful (run/ladder.py).
        published: figures that somebody printed, to be compared with ours.
        guides: {name: guide} of the script's own, functions or AutoGuides made of the
            model, for labels such as "name/reverse-kl".
        quantities: {name: function of {site: value}}, computed of every draw and measured like a
            site, as the model's deterministic sites are.
        judge: names of sites and quantities that verdicts are to rest on; empty for all.
        coords: {dimension: names of the entries along it}, or a function that returns them; a
            dimension is a plate, ``<site>_dim_<i>``, or what `dims` calls it.
        dims: {site or quantity: names of its axes}, of all of them or of those in no plate.
        restarts: of every fit, unless the settings say otherwise.
        name, description: for the report; filled in from the script.
    """

    model: Callable
    data: Mapping[str, Any] | Callable[[], Mapping[str, Any]] | None = None
    exact: Callable | None = None
    fits: Sequence[str | FitLabel | Given] = ()
    published: Sequence[Published] = ()
    guides: Guides = NO_GUIDES
    quantities: Mapping[str, Callable] = field(default_factory=dict)
    judge: Sequence[str] = ()
    coords: Mapping[str, Any] | Callable[[], Mapping[str, Any]] = field(default_factory=dict)
    dims: Mapping[str, Any] = field(default_factory=dict)
    restarts: int = 16
    name: str = "model"
    description: str = field(default="", repr=False)

    def __post_init__(self):
        _check_model(self.model)
        check_guides(self.guides)
        if self.exact is not None and not callable(self.exact):
            raise InputError(f"exact is {self.exact!r}; it must be a function exact(key, n)")
        _check_quantities(self.quantities)
        check_whole(self.restarts, "restarts", 1)
        check_text(self.name, "name")
        check_text(self.description, "description", empty=True)
        # One fit may stand where a list is meant.
        object.__setattr__(self, "fits", listed(self.fits, *_FITS))
        object.__setattr__(self, "published", listed(self.published, *_PUBLISHED))
        object.__setattr__(self, "judge", listed(self.judge, *_JUDGE))

    def target(self) -> Target:
        """The model bound to its data.

        Raises:
            InputError: when `data` is no mapping, the model cannot be traced, or `coords` or
                `dims` do not fit it.
        """
        data = _called(self.data, "data")
        naming = Naming.of(_called(self.coords, "coords"), self.dims)
        if not isinstance(data, Mapping | None):
            kind = type(data).__name__
            raise InputError(
                f"data is a {kind}; it must be a dict of the model's keyword arguments"
            )
        # Also for calls that come later: a model may fail at its hundredth.
        cannot_run = "the model cannot be run on its data:"
        own = dict(self.quantities)
        given = jax.tree.map(_copied, dict(data or {}))
        model = guarded(self.model, cannot_run)
        target = Target(model, (), given, functions=own, naming=naming)
        if needed := _not_given(self.model, target.kwargs):
            raise InputError(
                f"the model needs {formatting.listed([repr(name) for name in needed])}, which data "
                f"does not give; define data = {{...}} at the top level of the script, not under "
                f"if __name__ == '__main__'"
            )
        try:
            with blamed(cannot_run):  # what comes of its values outside of it, too
                target.check()
        except InputError as error:
            more = all_gaps(target, self._where) if error.__cause__ else missing_argument(target)
            raise InputError(f"{error}{more}") from error.__cause__
        _ = target.coords  # refuses names that do not fit the model
        return target

    @property
    def _where(self) -> Callable[[str, list[tuple[int, ...]]], str]:
        """How entries of the data are named."""
        return self.data.where if isinstance(self.data, FileData) else _in_the_script

    def reference(
        self, target: Target, settings: Settings, observer: Observer | None = None
    ) -> Reference | None:
        """Draws of the target, checked; None when they are not wanted.

        Raises:
            InputError: when they cannot be had as asked for, or do not fit the model.
        """
        settings = _with_draws(settings, target)
        return self._draws_of(
            self._source(target, settings), target, settings, observer or Silent()
        )

    def _draws_of(
        self, source: str, target: Target, settings: Settings, observer: Observer
    ) -> Reference | None:
        makers = {
            "none": self._no_draws,
            "exact": self._exact_draws,
            "chains": self._chain_draws,
            "nuts": self._nuts_draws,
            "file": self._draws_of_files,
        }
        return makers[source](target, settings, observer)

    def _source(self, target: Target, settings: Settings) -> str:
        """Where draws come from: what is asked for; else the script's exact, or the model
        itself where nothing is observed; else short chains, or NUTS where these cannot move,
        unless log p takes too long for both and no fit needs their draws."""
        if self._is_exact(target, settings):
            return "exact"
        if settings.source is not None:
            return settings.source
        if can_move(target, EFFORTS[settings.effort]):
            return "chains"
        possible = Sampling().within(target).is_possible
        return "nuts" if possible or self._needs_draws(target) else "none"

    def _is_exact(self, target: Target, settings: Settings) -> bool:
        """Whether exact draws are asked for, or there are some and nothing else is."""
        if settings.source is not None:
            return settings.source == "exact"
        return self.exact is not None or target.normalised

    def _needs_draws(self, target: Target) -> bool:
        """Whether a fit that the study names is fitted to draws of the target."""
        return any(
            fit.divergence.build(stand_in(target)).draws is not None
            for fit in self.named()
            if isinstance(fit, FitLabel)
        )

    def _no_draws(self, target: Target, settings: Settings, observer: Observer) -> None:
        if settings.source is None:
            observer.begin("reference: none")
            observer.end(
                "log p takes too long for chains; --reference nuts draws all the same, and a file "
                "of draws made elsewhere is taken"
            )

    def _exact_draws(self, target: Target, settings: Settings, observer: Observer) -> Reference:
        exact = self.exact or (by_running_the_model(target) if target.normalised else None)
        if exact is None:
            raise InputError("the script defines no exact(key, n); give --reference nuts or none")
        observer.begin("reference: exact draws", quiet=True)
        with blamed("exact(key, n) raises"):
            found = exact_reference(target, exact, settings.seed, settings.number_of_draws)
        observer.end("")
        return found

    def _chain_draws(self, target: Target, settings: Settings, observer: Observer) -> Reference:
        observer.begin("reference: chains")
        effort = within(EFFORTS[settings.effort], target)
        known = (settings.seed, settings.number_of_draws, effort, observer.progress)
        found = chains_reference(target, *known)
        if found is None and settings.source is None:
            observer.end("short chains have nowhere to start, as no Gaussian is near the target")
            return self._nuts_draws(target, settings, observer)
        if found is None:
            raise InputError(
                "short chains have nowhere to start, as no Gaussian is near the target; give "
                "--reference nuts"
            )
        observer.end(_of_chains(found))
        return found

    def _nuts_draws(self, target: Target, settings: Settings, observer: Observer) -> Reference:
        observer.begin("reference: NUTS")
        found = nuts_reference(target, settings.seed, settings.number_of_draws, observer.progress)
        spared = Sampling().within(target).spared
        observer.end("; ".join(filter(None, (_of_chains(found), spared))))
        return found

    def _draws_of_files(self, target: Target, settings: Settings, observer: Observer) -> Reference:
        given = settings.reference if settings.holds_draws else settings.files
        read = read_draws(given, target, "the reference")
        own = {"files": list(read.files), "left_out": dict(read.left_out)}
        found = from_given(target, read.draws, read.divergences, own, read.doubts)
        observer.begin("reference: draws made elsewhere")
        left_out = (f"{n} {what} were left out" for what, n in read.left_out.items())
        observer.end("; ".join([_of_chains(found), *left_out]))
        return found

    def prepare(
        self, settings: Settings, observer: Observer | None = None, *, chains: bool = True
    ) -> Prepared:
        """Everything that can be wrong with the input is found here, before any fit.

        Args:
            chains: whether to run chains where the reference comes from it; without them the
                plans are made on a stand-in, to be looked at and not run.

        Raises:
            InputError: with the cause and the remedy.
        """
        observer = observer or Silent()
        observer.begin("checking the model and its data", quiet=True)
        named = self.named()
        require_device()
        target = self.target()
        ladder = self._ladder(target)
        at_most = len(named) + (ladder.most if ladder else 0)
        _check_judged(self.judge, target)
        settings = _with_draws(settings, target)
        points = self._asked_who_it_is(target, settings, at_most)
        source = self._source(target, settings)
        has_draws = source != "none"
        wanted = self._climbed(ladder, has_draws) + named if ladder else named
        restarts = settings.restarts or self.restarts
        planner = Planner(target, settings.seed, self.guides, restarts)
        # Plans on a stand-in first: draws of the target can take minutes, mistakes should not.
        anything = stand_in(target, points)
        self._check(planner, wanted, anything, has_draws)
        observer.end("")
        waits = source in ("chains", "nuts") and not chains
        draws = None if waits else self._draws_of(source, target, settings, observer)
        observer.begin("setting up the fits", quiet=True)
        plans = [planner.plan(fit, anything if waits else draws) for fit in wanted]
        observer.end("")
        self._tell_of_data(observer)
        known = (self.name, self.description, settings, target)
        asked = (tuple(self.published), restarts, source, tuple(self.judge))
        return Prepared(*known, draws, tuple(plans), *asked, ladder)

    def named(self) -> list[FitLabel | Given]:
        """The fits that are named; where none is, the script's own guides by reverse KL."""
        own = [] if self.fits else [f"{name}/reverse-kl" for name in self.guides]
        return [as_wanted(f, self.guides) for f in (*self.fits, *own) if f != LADDER]

    def _ladder(self, target: Target) -> Ladder | None:
        """What is climbed where the study says "auto", or nothing."""
        asked = not self.fits or LADDER in self.fits
        return Ladder().for_target(target, _has_time_for_mixtures(target)) if asked else None

    def _climbed(self, ladder: Ladder, draws: bool) -> list[FitLabel | Given]:
        """All fits that a climb may make, twins where there are draws of the target."""
        twins = [ladder.twin(rung) for rung in ladder.rungs] if draws else []
        return [as_wanted(fit, self.guides) for fit in (*ladder.rungs, *twins)]

    def _asked_who_it_is(self, target: Target, settings: Settings, fits: int) -> Array:
        """Points (n, d) where the target can be used, if a comparison can be made of it.

        Raises:
            InputError: with the cause and the remedy.
        """
        self._require_memory(target, settings, fits)
        points = self._starts(target, settings)
        refuse_what_has_no_answer(target, points)
        refuse_what_cannot_be_kept(target.complete(points)[:2], target.dims)
        return points

    def _require_memory(self, target: Target, settings: Settings, fits: int) -> None:
        """Refuse more draws than fit; NUTS and files have their own numbers of draws."""
        parts = len(PARTS) if self._is_exact(target, settings) else 0
        require_for_draws(target, settings.number_of_draws, fits + parts)

    def _tell_of_data(self, observer: Observer) -> None:
        if isinstance(self.data, FileData) and self.data.told:
            observer.begin(f"data of {self.data.path}")
            observer.end("; ".join(self.data.told))

    def _starts(self, target: Target, settings: Settings) -> Array:
        """Points (n, d) where the model can be used.

        Raises:
            InputError: when there are none; where data are missing, by their names.
        """
        try:
            return starting_points(target, key_for(settings.seed, "check"), 32)
        except InputError as error:
            raise InputError(missing_values(target, self._where) or str(error)) from None

    def _check(
        self, planner: Planner, wanted: Sequence[FitLabel | Given], draws: Any, has_draws: bool
    ) -> None:
        plans = [planner.plan(fit, draws if has_draws else None) for fit in wanted]
        names = [plan.name for plan in plans]
        if twice := {name for name in names if names.count(name) > 1}:
            raise InputError(f"the fit {min(twice)!r} is asked for twice; name each once")
        catalogue.import_plug_ins(("metrics", "sections"))  # used after the fits, told before
        metrics = [m.replace("-", "_") for m in catalogue.names("metrics")]
        guides = {plan.name: plan.guide for plan in plans}
        check_published(self.published, guides, planner.target, metrics)

    def run(self, settings: Settings | None = None, observer: Observer | None = None) -> Comparison:
        """Fit and measure everything.

        Args:
            observer: told how it goes on; by default that is shown below a notebook's cell or on
                a terminal, and nowhere else.

        Raises:
            InputError: before any fit, when something given cannot be used.
        """
        if observer is None:
            with watching() as shown:
                return self.run(settings, shown)
        settings = settings or Settings()
        # A plain session has JAX in single precision; it is left as it was found.
        with jax.enable_x64(not settings.float32):
            with timed("checking the input, reference draws"):
                prepared = self.prepare(settings, observer)
            return prepared.run(observer)

    def load(self, folder: str | Path) -> Comparison:
        """A run of this study, read from its folder, with guides for `Comparison.fit`.

        Raises:
            InputError: when the folder holds none, or one of another target.
        """
        found = Comparison.load(folder)
        sites = {site: tuple(shape) for site, shape in found.results["target"]["sites"].items()}
        own, said = found.results["environment"], found.results["environment"]["settings"]
        float32 = own["precision"] == "float32"
        settings = Settings(own["seed"], said["draws"], float32=float32)
        with jax.enable_x64(not float32):
            target = self.target()
            if (mine := {site.name: site.shape for site in target.sites}) != sites:
                raise InputError(f"{folder} holds a run of sites {sites}; this study has {mine}")
            named = {fit.name: fit for fit in self.named()}
            planner = Planner(target, settings.seed, self.guides)
            live = {}
            for entry in found.fits:
                wanted = named.get(entry["name"]) or as_wanted(entry["name"], self.guides)
                if entry["params"] is not None:
                    known = (target, settings, entry, found.draws[entry["group"]])
                    live[entry["name"]] = reopened(planner, wanted, *known)
        return replace(found, live=live)

    def main(self) -> None:
        """Do what ``vi-compare run`` does with the script that this was written in.

        The script is read again by the same loader, so that ``python models/x.py`` and
        ``vi-compare run models/x.py`` give the same numbers.

        Raises:
            InputError: where there is no script, as in a notebook.
        """
        script = vars(sys.modules["__main__"]).get("__file__", "")
        if not Path(script).is_file():
            raise InputError(
                "study.main() runs a script as the command line does, and there is none here; "
                "in a notebook call study.run()"
            )
        sys.argv[:1] = ["vi-compare", "run", str(script)]
        runpy.run_module("vi_compare", run_name="__main__")


def _copied(leaf: Any) -> Any:
    """Arrays of the data as objects of their own: JAX keeps what it has made of an array in the
    session's precision, and would give that again in another one."""
    return leaf.copy() if isinstance(leaf, np.ndarray) else leaf


def _called(given: Any, name: str) -> Any:
    """What a script's function without arguments returns; anything else is itself."""
    if not callable(given):
        return given
    with blamed(f"{name}() raises"):
        return given()


def _with_draws(
    settings: Settings, target: Target, operations: float = 1e10, fewest: int = 4_000
) -> Settings:
    """With a number of draws: where none is asked for, as many as so many operations of log p, some
    ten seconds of one core, are enough for."""
    if settings.draws is not None:
        return settings
    return replace(settings, draws=afforded(operations, target.operations, fewest, DRAWS))


def _has_time_for_mixtures(target: Target) -> bool:
    """Whether log p is fast enough for the many steps that a mixture of two needs."""
    return Budget().is_enough_for(target, 2 * ReverseKL().num_particles)


def _of_chains(reference: Reference) -> str:
    """What is held against a reference of Markov chains; else how many draws it has."""
    known = reference.diagnosis
    assert known is not None
    chains = "one chain" if known.chains == 1 else f"{known.chains} chains"
    agree = "" if known.rhat is None else f", R-hat {known.rhat:.3f}"
    return (
        "; ".join(doubt.words for doubt in reference.doubts)
        or f"{known.draws} draws of {chains}{agree}"
    )


def _in_the_script(name: str, indices: list[tuple[int, ...]]) -> str:
    return f"data: {entries(name, indices)}"


def _check_model(model: Any) -> None:
    """Refuse what is no model, or is one that runs nothing when it is called."""
    if not callable(model):
        raise InputError(f"the model is {model!r}; it must be a function with numpyro.sample")
    function = inspect.unwrap(model)
    if inspect.isgeneratorfunction(function) or inspect.iscoroutinefunction(function):
        raise InputError("the model is a generator or a coroutine; leave out yield and async")


def _check_quantities(quantities: Any) -> None:
    """Refuse what is no dict of functions."""
    if not isinstance(quantities, Mapping):
        kind = type(quantities).__name__
        raise InputError(f"quantities is a {kind}; it must be a dict {{name: function}}")
    for name, of in quantities.items():
        check_text(name, "the name of a quantity")
        if not callable(of):
            raise InputError(
                f"the quantity {name!r} is {of!r:.60}; give a function of {{site: value}}"
            )


def _check_judged(names: Sequence[str], target: Target) -> None:
    """Refuse names of what is not measured."""
    large = [one.name for one in target.large]
    for name in names:
        if name in large:
            raise InputError(f"judge: {name!r} has too many entries to be measured one by one")
        if name not in target.dims:
            known = list(target.dims)
            raise InputError(
                f"judge: there is no site or quantity {name!r}; {nearest(name, known)}"
            )


def _not_given(model: Callable, data: Mapping[str, Any]) -> list[str]:
    """Arguments without a default that the data lack."""
    try:
        parameters = inspect.signature(model).parameters.values()
    except (TypeError, ValueError):  # some callables tell nothing of their arguments
        return []
    named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    required = (p for p in parameters if p.kind in named and p.default is p.empty)
    return [p.name for p in required if p.name not in data]
