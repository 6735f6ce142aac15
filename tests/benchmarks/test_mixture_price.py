"""What a mixture costs beside one Gaussian, and many starts beside one.

uv run pytest tests/benchmarks/test_mixture_price.py
"""

from __future__ import annotations

from functools import partial

import jax
import pytest
from published import breast_cancer, gallery

from vi_compare import ReverseKL, catalogue
from vi_compare.run.labels import parse_part
from vi_compare.solvers import Problem

TARGETS = {
    "breast cancer": breast_cancer,
    "student_mixture": partial(gallery, "student_mixture"),
    "varying_slopes": partial(gallery, "varying_slopes"),
    "gaussian_process": partial(gallery, "gaussian_process"),
}


def fitted(target, guide: str, solver: str, restarts: int):
    made = parse_part("guides", guide).build(target.model)
    problem = Problem.of(target, made, ReverseKL(), jax.random.key(0), restarts)
    return catalogue.load("solvers", solver).build().solve(problem)


@pytest.mark.parametrize("name", TARGETS)
def test_four_components_against_one_gaussian(name, compare):
    """The ratio is to be above 0.2: five times the seconds of `mvn`."""
    target = TARGETS[name]()
    mixture = partial(fitted, target, "mixture:4", "natural-gradient", 16)
    gaussian = partial(fitted, target, "mvn", "whitened", 16)
    counts = [f"{fit().cost.gradient_evaluations:,}" for fit in (mixture, gaussian)]
    seconds = lambda fit: fit().approximation.params
    compare(
        f"{name}: mixture:4 against mvn", partial(seconds, mixture), partial(seconds, gaussian),
        rounds=3, gradients=f"{counts[0]} against {counts[1]}",
    )  # fmt: skip


def test_many_starts_against_one(compare):
    """The ratio is to be above 1/40."""
    target = gallery("three_peaks")
    run = lambda starts: fitted(target, "mixture:2", "natural-gradient", starts).approximation
    compare("three_peaks: 256 starts against one", lambda: run(256).params, lambda: run(1).params,
            rounds=3)  # fmt: skip
