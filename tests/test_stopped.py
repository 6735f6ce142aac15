"""Optimisers that were stopped early are found out, and those that arrived are not accused."""

from __future__ import annotations

from itertools import pairwise

import jax
import numpy as np
import pytest
import stopped
from scipy.stats import beta
from stopped import STOPS, THRESHOLD

# A gap is well past the threshold when it is twice as wide.
WELL = 2 * THRESHOLD
LEAST_CASES, RIGHT = 400, 0.99
SEEDS = 24
GAPS = (0, 0.005, 0.01, 0.02, 0.1, 1, 10, np.inf)  # nats: rows of the table


@pytest.mark.parametrize(
    ("task", "stop", "arrived"),
    [
        ("skewed, 1-D", STOPS[-1], True),
        # The loss stands still here, tens of nats from the end.
        ("the same, mvn", STOPS[-2], False),
        # A valley in which a mean and ten scales move together.
        ("funnel, 10-D", STOPS[1], False),
    ],
)
def test_a_stopped_optimiser_is_called_not_converged(task, stop, arrived):
    by_name = {one.name: one for one in stopped.tasks()}
    found = stopped.case(by_name[task], *stop, seed=0)
    assert found.gap < THRESHOLD / 2 if arrived else found.gap > WELL
    assert found.named is not arrived


@pytest.mark.slow
def test_stopped_optimisers_pooled_over_targets():
    """Right in 99 of 100: said where it is true, and not said where it is not."""
    cases = []
    for task in stopped.tasks():
        mine = [stopped.case(task, *stop, seed) for stop in STOPS for seed in range(SEEDS)]
        named = sum(case.named for case in mine)
        print(f"{task.name}: {named} of {len(mine)} not converged", flush=True)
        cases += mine
        jax.clear_caches()  # a study of hundreds of fits would keep them all
    _print(cases)
    well = [case.named for case in cases if case.gap > WELL]
    least = beta.ppf(0.025, sum(well), len(well) - sum(well) + 1)
    print(f"{sum(well)} of {len(well)} right; at least {100 * least:.2f} % (97.5 %)")
    untrue = [case for case in cases if case.named and case.gap <= THRESHOLD]
    print(f"not true in {len(untrue)} of {len(cases)}: {[(c.task, c.gap) for c in untrue]}")
    missed = [case for case in cases if case.gap > WELL and not case.named]
    print(f"missed: {[(c.task, c.gap) for c in missed]}")
    assert len(well) >= LEAST_CASES
    assert np.mean(well) >= RIGHT
    assert len(untrue) <= (1 - RIGHT) * len(cases)


def _print(cases):
    print("\nnats left | cases | named | k̂ alone | ELBO alone | loss alone")
    for low, high in pairwise(GAPS):
        some = [case for case in cases if low < case.gap <= high]
        if not some:
            continue
        said = (
            [case.named for case in some],
            [case.judged.khat_alone for case in some],
            [case.judged.elbo_alone for case in some],
            [case.falling for case in some],
        )
        shares = " | ".join(f"{100 * np.mean(hits):.0f} %" for hits in said)
        print(f"{low:g} to {high:g} | {len(some)} | {shares}")
