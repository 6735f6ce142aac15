"""What a Gaussian fit, and a whole run with its verdicts, costs on large data.

Seconds of whole fits, compiling included, ours and the peers' in one process; a whole run and one
SVI in processes of their own. The ELBO of each is held against the best of all.

    uv run --group benchmarks pytest tests/benchmarks/test_price.py
"""

from __future__ import annotations

import subprocess
import sys
from functools import cache

import conftest
import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from test_gaussian_solvers import (
    Result,
    blackjax_vi,
    excess,
    gap_to_best,
    multipathfinder,
    numpyro_svi,
    timed,
)

from vi_compare import ReverseKL, catalogue
from vi_compare.solvers import Problem, whitened
from vi_compare.target import Target

RATE, STEPS, PARTICLES = 0.01, 5000, 16
ROWS, DIMS = (1_000, 10_000, 100_000, 1_000_000), (5, 20, 100, 300)
PEERS = {
    "NumPyro SVI": numpyro_svi,
    "BlackJAX fullrank_vi": blackjax_vi,
    "BlackJAX multipathfinder": multipathfinder,
}
FOUND: dict[tuple[int, int], dict[str, Result]] = {}

HIERARCHY = '''
"""Hierarchical logistic regression: {rows} rows, {groups} groups, five slopes."""
import jax.numpy as jnp, numpy as np, numpyro, numpyro.distributions as dist
rng = np.random.default_rng(1)
x, group = rng.normal(size=({rows}, 5)), rng.integers(0, {groups}, {rows})
logit = -0.3 + rng.normal(0, 0.7, {groups})[group] + x @ [0.5, -1.0, 0.2, 0.0, 0.8]
data = dict(x=x, group=group, y=(rng.random({rows}) < 1 / (1 + np.exp(-logit))) * 1.0)
def model(x, group, y):
    mean = numpyro.sample("mean", dist.Normal(0, 2))
    spread = numpyro.sample("spread", dist.HalfNormal(1))
    with numpyro.plate("groups", {groups}):
        level = numpyro.sample("level", dist.Normal(mean, spread))
    slope = numpyro.sample("slope", dist.Normal(0, 1).expand([5]).to_event(1))
    with numpyro.plate("rows", len(x)):
        numpyro.sample("y", dist.Bernoulli(logits=level[group] + x @ slope), obs=y)
'''
ONE_SVI = """
import jax
from numpyro.infer import SVI, Trace_ELBO
from numpyro.infer.autoguide import AutoMultivariateNormal
from numpyro.optim import Adam
svi = SVI(model, AutoMultivariateNormal(model), Adam({rate}), Trace_ELBO())
svi.run(jax.random.key(0), {steps}, **data, progress_bar=False)
"""


@pytest.mark.parametrize(("rows", "groups"), [(30_000, 200)])
def test_a_whole_run_against_one_svi(rows, groups, compare, environment, tmp_path):
    """`normal` and `mvn`, the reference, all metrics, verdicts and the page; against 5,000 steps of
    NumPyro's SVI of `mvn` alone."""
    script, peer = tmp_path / "hierarchy.py", tmp_path / "svi.py"
    text = HIERARCHY.format(rows=rows, groups=groups)
    script.write_text(text)
    peer.write_text(text + ONE_SVI.format(rate=RATE, steps=STEPS))
    own = environment | {"XDG_CACHE_HOME": str(tmp_path / "cache")}
    fits = ["--fit", "normal/reverse-kl", "--fit", "mvn/reverse-kl"]

    def process(*words):
        subprocess.run([sys.executable, *words], env=own, check=True, capture_output=True)
        return ()

    ours = lambda: process("-m", "vi_compare", "run", str(script), "--out", str(tmp_path), *fits)
    compare(f"one SVI against a whole run, {rows:,} rows", ours, lambda: process(str(peer)), 2)


@cache
def regression(rows: int, dim: int) -> Target:
    """Logistic, with a slope for each of `dim` columns."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(rows, dim)) / np.sqrt(dim)
    y = (rng.random(rows) < 1 / (1 + np.exp(-2 * x.sum(axis=1)))) * 1.0

    def model(x, y):
        slope = numpyro.sample("slope", dist.Normal(jnp.zeros(dim), 3.0).to_event(1))
        numpyro.sample("y", dist.Bernoulli(logits=x @ slope).to_event(1), obs=y)

    return Target(model, (), {"x": jnp.asarray(x), "y": jnp.asarray(y)})


@pytest.mark.parametrize(
    ("rows", "dim"), [*((rows, 20) for rows in ROWS), *((10_000, dim) for dim in DIMS if dim != 20)]
)
def test_cost_of_a_fit(rows, dim, benchmark):
    goal, spent = regression(rows, dim), 0

    def ours():
        nonlocal spent
        made = catalogue.load("guides", "mvn").build(goal.model)
        problem = Problem.of(goal, made, ReverseKL(), jax.random.key(0), 16)
        fit = whitened.build().solve(problem)
        spent = fit.cost.gradient_evaluations
        return lambda: excess(fit.approximation, 5_000)

    found = {"vi_compare": timed(ours)}
    failed = []
    for name, run in PEERS.items():
        steps = STEPS * PARTICLES
        try:
            found[name] = timed(lambda run=run, steps=steps: run(goal, "mvn", steps, RATE, 5_000))
        except jax.errors.JaxRuntimeError as error:
            failed.append(f"    {name:26} {str(error).splitlines()[0]}")
    FOUND[rows, dim] = found
    benchmark.pedantic(lambda: None, rounds=1)
    conftest.LINES.append(f"{rows:,} rows, {dim} dimensions, {spent:,} gradients:")
    conftest.LINES += [f"    {name:26} {_row(found, one)}" for name, one in found.items()] + failed


def _row(found: dict[str, Result], one: Result) -> str:
    gap, error = gap_to_best(found, one)
    return f"{one.seconds:.3g} s, {gap:.3g} ± {error:.1g} nats below the best"


@pytest.mark.parametrize("axis", [0, 1], ids=["rows", "dimensions"])
def test_slopes(axis):
    """Of log seconds in the log of rows, and of dimensions, through what was measured above."""
    some = {k: v for k, v in FOUND.items() if k[1 - axis] == (20, 10_000)[axis]}
    if len(some) < 3:
        pytest.skip("only where all sizes have been run")
    size = np.log([k[axis] for k in some])
    for name in ("vi_compare", *PEERS):
        known = [(x, found[name].seconds) for x, found in zip(size, some.values(), strict=True)
                 if name in found]  # fmt: skip
        slope = np.polyfit(*np.transpose([(x, np.log(y)) for x, y in known]), 1)[0]
        conftest.LINES.append(f"{name}: seconds as {('rows', 'dimensions')[axis]} ** {slope:.2f}")
