"""What flows reach, and in what time: ELBO, seconds and gradients, two targets, three seeds.

Breast cancer as the literature has it: 31 dimensions, log Z −77.570, of all Gaussians the best
has an ELBO of −78.91. Neal's funnel in ten dimensions: log Z 0, the best Gaussian −1.87.

    uv run pytest tests/benchmarks/test_flows.py
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import conftest
import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from sklearn.datasets import load_breast_cancer

from vi_compare import ReverseKL, catalogue
from vi_compare.solvers import Problem
from vi_compare.target import Target

sys.path.insert(0, str(Path(__file__).parents[1]))
from targets import script

DRAWS, MINUTES = 50_000, 2
LEAST = {"breast cancer": -77.80, "funnel": -0.1}


def breast_cancer() -> Target:
    """Every feature divided by its standard deviation and not centred, w ~ N(0, 10²)."""
    data = load_breast_cancer()
    features = data.data / data.data.std(axis=0)
    x = jnp.asarray(np.column_stack([np.ones(len(features)), features]))
    y = jnp.asarray(data.target)

    def model():
        w = numpyro.sample("w", dist.Normal(0.0, 10.0).expand([x.shape[1]]).to_event(1))
        numpyro.sample("y", dist.Bernoulli(logits=x @ w), obs=y)

    return Target(model)


TARGETS = {"breast cancer": breast_cancer, "funnel": lambda: Target(script("funnel").model)}


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("guide", ["coupling", "spline"])
@pytest.mark.parametrize("name", TARGETS)
def test_a_flow_reaches_what_no_gaussian_can(name, guide, seed):
    target = TARGETS[name]()
    jax.clear_caches()
    began = time.perf_counter()
    made = catalogue.load("guides", guide).build(target.model)
    problem = Problem.of(target, made, ReverseKL(), jax.random.key(seed), 4)
    fit = catalogue.load("solvers", "flow").build().solve(problem)
    seconds = time.perf_counter() - began
    draws = fit.approximation.sample(jax.random.key(99), DRAWS)
    excess = np.asarray(draws.log_p) - np.asarray(draws.log_q)
    elbo, error = excess.mean(), excess.std(ddof=1) / np.sqrt(DRAWS)
    conftest.LINES.append(
        f"{name}, {guide}, seed {seed}: ELBO {elbo:.4f} ± {error:.4f}, {seconds:.0f} s, "
        f"{fit.settings['steps']} steps, {fit.cost.gradient_evaluations:,} gradients, {fit.status}"
    )
    assert elbo + 2 * error > LEAST[name]
    assert seconds < 60 * MINUTES
