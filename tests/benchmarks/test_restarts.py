"""16 restarts under one vmap against 16 calls of SVI.run, steps and draws the same."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import jax
import optax
import pytest
from numpyro.infer import SVI

from vi_compare import AutoGaussianMixture, ReverseKL, Target
from vi_compare.approximation import set_up

RESTARTS, STEPS = 16, 2000


@pytest.mark.parametrize("peer", ["SVI.run", "SVI.run under one jit"])
def test_vmapped_restarts_against_sequential_runs(peer, compare):
    path = Path(__file__).parents[2] / "models" / "three_peaks.py"
    spec = importlib.util.spec_from_file_location("three_peaks", path)
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    guide = AutoGaussianMixture(script.model, 2)
    set_up(guide, Target(script.model), jax.random.key(0))
    svi = SVI(script.model, guide, optax.adam(0.01), ReverseKL())
    keys = jax.random.split(jax.random.key(1), RESTARTS)
    run = lambda key: svi.run(key, STEPS, progress_bar=False).losses
    together = jax.jit(jax.vmap(run))
    # as people call it, SVI.run traces and compiles its loop again every time
    one = {"SVI.run": run, "SVI.run under one jit": jax.jit(run)}[peer]
    label = f"16 restarts, one vmap against {peer} 16 times"
    compare(label, lambda: together(keys), lambda: [one(key) for key in keys], 3)
