"""Where log p takes long a stochastic fit spares starts and draws, and says so."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest

from vi_compare import catalogue
from vi_compare.divergences.forward_kl import ForwardKL
from vi_compare.divergences.reverse_kl import ReverseKL
from vi_compare.solvers import Problem, svi
from vi_compare.solvers._stochastic import Stochastic, StochasticTuning
from vi_compare.solvers._work import Budget
from vi_compare.target import Target

ROWS = 20_000


def straight(rows: int, batch: int | None = None):
    """A line through normal data, and its posterior's mean and sds by the normal equations."""
    rng = np.random.default_rng(0)
    x = np.linspace(-1.0, 1.0, rows)
    y = 0.3 - 0.7 * x + rng.normal(size=rows)

    def model(x, y):
        a = numpyro.sample("a", dist.Normal(0.0, 10.0))
        b = numpyro.sample("b", dist.Normal(0.0, 10.0))
        with numpyro.plate("rows", rows, subsample_size=batch) as i:
            numpyro.sample("y", dist.Normal(a + b * x[i], 1.0), obs=y[i])

    design = np.column_stack([np.ones(rows), x])
    precision = design.T @ design + np.eye(2) / 100
    mean = np.linalg.solve(precision, design.T @ y)
    target = Target(model, (), {"x": jnp.asarray(x), "y": jnp.asarray(y)})
    return target, mean, np.sqrt(np.diag(np.linalg.inv(precision)))


def test_operations_grow_with_the_rows_and_are_those_of_the_formula():
    """A row takes a + b x, its distance, its square, and in the gradient two products and two
    sums: some ten, and what XLA adds to them."""
    few, many = (straight(rows)[0].operations for rows in (1_000, ROWS))
    assert few < many
    assert 5 * ROWS < many < 50 * ROWS


def test_only_what_takes_long_is_spared():
    budget, loss = Budget(), ReverseKL()
    small, large = straight(100)[0], straight(ROWS)[0]
    assert budget.restarts(small, loss, 2, 16) == 16
    assert budget.draws(small, loss, 2, 8) == 8
    for strata in (1, 2, 8):
        found = budget.restarts(large, loss, strata, 16)
        step = strata * loss.num_particles * large.operations
        assert found == 2 or found * step * budget.search_steps <= budget.operations
        assert 2 <= found < 16
    assert budget.restarts(large, loss, 1, 16) >= budget.restarts(large, loss, 8, 16)
    # Rows that a step does not see, and a loss that never asks for log p, cost nothing.
    assert budget.restarts(straight(ROWS, 10)[0], loss, 2, 16) == 16
    draws = large.complete(jnp.zeros((4, 2)))
    assert budget.restarts(large, ForwardKL(draws), 2, 16) == 16


@pytest.mark.parametrize("operations", [Budget().operations, 1e8])
def test_a_fit_says_what_it_gave_up_and_is_right_all_the_same(operations):
    """Means within a tenth of an sd, sds within 5 %: what averaged steps leave at 16 draws each."""
    target, mean, sd = straight(50)
    guide = catalogue.load("guides", "normal").build(target.model)
    budget = Budget(operations)
    solver = svi.PlainVI(Stochastic("svi", 20_000, 0.01, StochasticTuning(budget=budget)))
    fit = solver.solve(Problem.of(target, guide, ReverseKL(), jax.random.key(0), 16))
    spared = operations < 1e9
    assert ("as log p takes long, 2 of 16 starts were followed and" in fit.message) == spared
    assert len(fit.restarts) == (2 if spared else 16)
    found = [float(fit.approximation.params[f"{name}_auto_loc"]) for name in "ab"]
    scale = [float(fit.approximation.params[f"{name}_auto_scale"]) for name in "ab"]
    assert (abs(found - mean) < 0.1 * sd).all()
    np.testing.assert_allclose(scale, sd, rtol=0.05)
