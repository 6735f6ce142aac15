"""Seconds and memory of the default Gaussian fits at the largest dimensions that they take.

uv run pytest tests/benchmarks/test_limits.py
"""

from __future__ import annotations

import subprocess
import sys

import conftest
import pytest

# A logistic regression of 2,000 rows on correlated predictors, whose posterior is no Gaussian.
FIT = """
import resource, time
import jax, numpy as np, numpyro, numpyro.distributions as dist
jax.config.update("jax_enable_x64", True)
from vi_compare import ReverseKL, Target, catalogue
from vi_compare.approximation import set_up
from vi_compare.solvers import Problem, whitened

d, guide, options = {dim}, "{guide}", {options}
rng = np.random.default_rng(0)
x = rng.normal(size=(2000, d)) @ (np.eye(d) + rng.normal(size=(d, d)) / d)
y = rng.random(2000) < 1 / (1 + np.exp(-x @ rng.normal(size=d) / np.sqrt(d)))

def model():
    b = numpyro.sample("b", dist.Normal(0.0, 1.0).expand([d]).to_event(1))
    numpyro.sample("y", dist.Bernoulli(logits=x @ b), obs=y)

began, target = time.perf_counter(), Target(model)
made = catalogue.load("guides", guide).build(model, **options)
set_up(made, target, jax.random.key(0))
fit = whitened.build().solve(Problem.of(target, made, ReverseKL(), jax.random.key(0), 16))
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
seconds = time.perf_counter() - began
print(fit.status, round(seconds), round(peak / 1024), fit.cost.gradient_evaluations)
"""
CASES = [("mvn", {}, 300), ("normal", {}, 1600), ("lowrank", {"rank": 5}, 1600)]


@pytest.mark.parametrize(("guide", "options", "dim"), CASES)
def test_the_largest_fits(guide, options, dim, benchmark):
    code = FIT.format(guide=guide, options=options, dim=dim)
    run = lambda: subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    done = benchmark.pedantic(run, rounds=1)
    assert done.returncode == 0, done.stderr[-2000:]
    status, seconds, megabytes, gradients = done.stdout.rsplit(maxsplit=3)
    conftest.LINES.append(
        f"{guide} of {dim} dimensions: {status} in {seconds} s with {megabytes} MB, "
        f"{gradients} gradients"
    )
