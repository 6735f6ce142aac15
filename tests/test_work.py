"""Where log p takes long a stochastic fit spares starts and draws, and says so."""

from __future__ import annotations

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest

from vi_compare import Settings, Study, catalogue
from vi_compare.divergences.forward_kl import ForwardKL
from vi_compare.divergences.reverse_kl import ReverseKL
from vi_compare.reference.nuts_chains import Sampling
from vi_compare.settings import DRAWS
from vi_compare.solvers import Problem, svi
from vi_compare.solvers._stochastic import Stochastic, StochasticTuning
from vi_compare.solvers._work import Budget, operations_of_a_step
from vi_compare.target import Target
from vi_compare.target.work import operations

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
    assert budget.restarts(of_mixture(small, 2)) == 16
    assert budget.draws(of_mixture(small, 2), 8) == 8
    for components in (1, 2, 8):
        found = budget.restarts(of_mixture(large, components))
        step = components * loss.num_particles * large.operations
        assert found == 2 or found * step * budget.search_steps <= budget.operations
        assert 2 <= found < 16
    assert budget.restarts(of_mixture(large, 1)) >= budget.restarts(of_mixture(large, 8))
    # Rows that a step does not see, and a loss that never asks for log p, cost nothing.
    assert budget.restarts(of_mixture(straight(ROWS, 10)[0], 2)) == 16
    draws = large.complete(jnp.zeros((4, 2)))
    assert budget.restarts(of_mixture(large, 2, ForwardKL(draws))) == 16


def test_a_guide_of_many_parameters_is_spared_too():
    """log q of a full covariance in 100 dimensions is two products of a matrix and a vector, and
    twice as much in its gradient: 6 d² operations, and log p of a standard normal a few hundred."""
    d = 100
    target = Target(lambda: numpyro.sample("x", dist.Normal(0.0, 1.0).expand([d]).to_event(1)))
    found = operations_of_a_step(of_mixture(target, 1)) / ReverseKL().num_particles
    assert 6 * d**2 < found < 8 * d**2


def of_mixture(target, components, loss=None):
    guide = catalogue.load("guides", "mixture").build(target.model, components)
    return Problem.of(target, guide, loss or ReverseKL(), jax.random.key(0), 16)


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


# --- loops -------------------------------------------------------------------------------

ROUNDS = 50


def summed(body, rounds=ROUNDS):
    """The body (5,) -> (5,) so many times over, as Python writes it out: no loop is left."""

    def run(x):
        for _ in range(rounds):
            x = body(x)
        return x.sum()

    return run


def body(x):
    return x + 0.01 * x * x


def scanned(x):
    return jax.lax.scan(lambda c, _: (body(c), None), x, length=ROUNDS)[0].sum()


def until(limit):
    """A loop that ends by its numbers: the first entry counts the rounds."""

    def run(x):
        going = lambda carry: carry[0] < limit(x)
        return jax.lax.while_loop(going, lambda c: (c[0] + 1, body(c[1])), (0.0, x))[1].sum()

    return run


def nested(x):
    inner = lambda x: jax.lax.while_loop(
        lambda c: c[0] < 5.0, lambda c: (c[0] + 1, body(c[1])), (0.0, x)
    )[1]
    return jax.lax.scan(lambda c, _: (inner(c), None), x, length=ROUNDS // 5)[0].sum()


@pytest.mark.parametrize("loop", [scanned, until(lambda x: ROUNDS), jax.jit(nested)])
def test_loops_are_counted_as_often_as_they_run(loop):
    """Against the same steps without a loop. A loop's own bookkeeping, and what XLA shares among
    steps that it sees whole, are some of the 15 operations of a step, and not a multiple."""
    points = jnp.ones((3, 5))
    plain = operations(summed(body), points)
    assert plain >= 15 * ROUNDS  # two products and a sum of five numbers each
    assert 0.8 * plain < operations(loop, points) < 1.6 * plain


def test_loops_side_by_side_end_with_the_last_of_them():
    loop = until(lambda x: 10 * x[0])
    points = jnp.outer(jnp.array([1.0, 5.0]), jnp.ones(5))
    alone = operations(loop, points[1:])
    assert operations(loop, points) == pytest.approx(alone, rel=0.3)


def test_a_branch_is_counted_and_gradients_too():
    """A gradient of a loop goes over it forwards and backwards."""
    points = jnp.ones((2, 5))
    branch = lambda x: jax.lax.cond(x[0] > 0, nested, lambda x: x.sum(), x)
    assert operations(branch, points) > 15 * ROUNDS
    assert operations(jax.grad(scanned), points) > 1.5 * operations(scanned, points)


# --- NUTS ----------------------------------------------------------------------------------


def test_nuts_is_cut_to_what_it_may_spend_and_left_out_where_that_is_too_little():
    sampling = Sampling()
    small, large, huge = (straight(rows)[0] for rows in (100, ROWS // 2, 5 * ROWS))
    assert sampling.within(small) == sampling
    cut = sampling.within(large)
    assert cut.is_possible
    assert cut.enough * large.operations <= 1.01 * sampling.operations
    assert cut.most == pytest.approx(3 * cut.enough, abs=2)
    assert sampling.fewest <= cut.warmup_unframed < sampling.warmup_unframed
    assert not sampling.within(huge).is_possible
    assert f"{cut.enough:,} gradients" in cut.spared
    assert not sampling.within(small).spared


def test_where_nuts_is_left_out_a_run_says_so_and_a_fit_to_draws_still_has_it():
    target, *_ = straight(10 * ROWS)
    told = []
    told_of = SimpleNamespace(begin=lambda *a, **k: None, progress=lambda *a: None,
                              end=lambda text: told.append(text))  # fmt: skip
    study = Study(target.model, target.kwargs)
    prepared = study.prepare(Settings(), told_of, chains=False)
    assert prepared.reference is None
    assert [plan.name for plan in prepared.plans] == ["normal/reverse-kl", "mvn/reverse-kl"]
    assert any("--reference nuts draws all the same" in text for text in told)
    assert set(prepared.ladder.left_out) == {"mixture:auto", "coupling"}
    assert set(prepared.ladder.left_out.values()) == {"log p takes long"}
    named = Study(target.model, target.kwargs, fits=["mixture:2/reverse-kl"])
    (plan,) = named.prepare(Settings(), told_of, chains=False).plans
    assert plan.name == "mixture:2/reverse-kl"
    forward = Study(target.model, target.kwargs, fits=["mvn/forward-kl"])
    assert forward._source(target, Settings()) == "nuts"
    assert forward._source(target, Settings(reference="none")) == "none"


# --- draws ---------------------------------------------------------------------------------


def test_fewer_draws_are_made_where_log_p_takes_long_unless_so_many_are_asked_for():
    quick, dear = straight(100)[0], straight(10 * ROWS)[0]
    number = lambda target, **own: (
        Study(target.model, target.kwargs, fits=["normal/reverse-kl"])
        .prepare(Settings(reference="none", **own), chains=False)
        .settings.number_of_draws
    )
    assert number(quick) == DRAWS
    assert number(dear) == 4_000
    assert number(dear, draws=12_000) == 12_000
