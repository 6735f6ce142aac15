"""Study: what to compare. Running it gives a Comparison: what came out."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from vi_compare import catalogue
from vi_compare.comparison import Comparison
from vi_compare.errors import InputError
from vi_compare.fits import Given, Planner
from vi_compare.labels import parse_label
from vi_compare.published import Published, check_names
from vi_compare.randomness import key_for
from vi_compare.reference import Reference, exact_reference
from vi_compare.running import Observer, Prepared, Silent
from vi_compare.settings import Settings
from vi_compare.starts import starting_points
from vi_compare.target import Target

DEFAULT_FITS = ("mvn/reverse-kl", "mixture:2/reverse-kl")
DEFAULT_FITS_WITH_DRAWS = (*DEFAULT_FITS, "mvn/forward-kl", "mixture:2/forward-kl")


@dataclass(frozen=True)
class Study:
    """A model and the approximations of it to compare.

    Attributes:
        model: a NumPyro model.
        data: its keyword arguments, or a function that returns them.
        exact: ``exact(key, n) -> {site: (n, ...)}``, draws of the target.
        fits: labels such as "mixture:2/reverse-kl", and `Given` parameters; empty for a
            default set.
        published: figures that somebody printed, to be compared with ours.
        name, description: for the report; filled in from the script.
    """

    model: Callable
    data: Mapping[str, Any] | Callable[[], Mapping[str, Any]] | None = None
    exact: Callable | None = None
    fits: Sequence[str | Given] = ()
    published: Sequence[Published] = ()
    name: str = "model"
    description: str = field(default="", repr=False)

    def target(self) -> Target:
        """The model bound to its data.

        Raises:
            InputError: when `data` is no mapping, or the model cannot be traced.
        """
        data = self.data() if callable(self.data) else self.data
        if not isinstance(data, Mapping | None):
            kind = type(data).__name__
            raise InputError(
                f"data is a {kind}; it must be a dict of the model's keyword arguments"
            )
        target = Target(self.model, (), dict(data or {}))
        try:
            _ = target.sites
        except InputError:
            raise
        except Exception as error:  # whatever a user's model raises
            first = str(error).strip().partition("\n")[0]
            raise InputError(
                f"the model cannot be run on its data: {type(error).__name__}: {first}"
            ) from error
        return target

    def reference(self, target: Target, settings: Settings) -> Reference | None:
        """Draws of the target, checked; None when there are none to be had."""
        wanted = settings.reference or ("exact" if self.exact else "none")
        if wanted == "none":
            return None
        if self.exact is None:
            raise InputError("the script defines no exact(key, n); give --reference none")
        try:
            return exact_reference(target, self.exact, settings.seed, settings.draws)
        except InputError:
            raise
        except Exception as error:  # whatever a user's sampler raises
            first = str(error).strip().partition("\n")[0]
            raise InputError(f"exact(key, n) raises {type(error).__name__}: {first}") from error

    def prepare(self, settings: Settings) -> Prepared:
        """Everything that can be wrong with the input is found here, before any fit.

        Raises:
            InputError: with the cause and the remedy.
        """
        fits = self.fits
        for label in (f for f in fits if not isinstance(f, Given)):
            parse_label(label)
        target = self.target()
        starting_points(target, key_for(settings.seed, "check"), 32)
        draws = self.reference(target, settings)
        fits = fits or (DEFAULT_FITS_WITH_DRAWS if draws else DEFAULT_FITS)
        planner = Planner(target, draws, settings.seed)
        plans = [planner.plan(f if isinstance(f, Given) else parse_label(f)) for f in fits]
        names = [plan.name for plan in plans]
        if twice := {name for name in names if names.count(name) > 1}:
            raise InputError(f"the fit {min(twice)!r} is asked for twice; name each once")
        metrics = [m.replace("-", "_") for m in catalogue.names("metrics")]
        check_names(self.published, names, metrics)
        return Prepared(
            self.name,
            self.description,
            settings,
            target,
            draws,
            tuple(plans),
            tuple(self.published),
        )

    def run(self, settings: Settings | None = None, observer: Observer | None = None) -> Comparison:
        """Fit and measure everything.

        Raises:
            InputError: before any fit, when something given cannot be used.
        """
        return self.prepare(settings or Settings()).run(observer or Silent())

    def main(self) -> None:
        """Do what ``vi-compare run`` does with the script that this was written in.

        The script is read again by the same loader, so that ``python models/x.py`` and
        ``vi-compare run models/x.py`` give the same numbers.
        """
        from vi_compare.cli import main

        script = sys.modules["__main__"].__file__
        sys.exit(main(["run", str(script), *sys.argv[1:]]))
