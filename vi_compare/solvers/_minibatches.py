"""What a solver that needs all of the data does about a model that sees a part."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from vi_compare import catalogue
from vi_compare.errors import InputError
from vi_compare.solvers import Fit, Problem
from vi_compare.target import Target


def fitted_in_a_frame(problem: Problem, **options: Any) -> Fit:
    """By SVI in a Gaussian's frame: a minibatch's density is another at each look, so that nothing
    can be brought to its optimum. `options` are those of ``framed``."""
    fit = catalogue.load("solvers", "framed").build(**options).solve(problem)
    plates = ", ".join(map(repr, problem.target.subsampled))
    why = f"the model sees a minibatch of {plates}, so it was fitted by SVI in a Gaussian's frame"
    return replace(fit, message=f"{why}: {fit.message}")


def refuse_minibatches(solver: str, target: Target) -> None:
    """
    Raises:
        InputError: where log p is of a minibatch, and differs from call to call.
    """
    if target.subsampled:
        plates = ", ".join(map(repr, target.subsampled))
        raise InputError(
            f"{solver} needs all of the data, and the model sees a minibatch of {plates}; "
            f"leave the solver out for the default"
        )
