"""16 restarts under one vmap against 16 calls of SVI.run, steps and draws the same."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import jax
import optax
from numpyro.infer import SVI

from vi_compare import AutoGaussianMixture, ReverseKL, Target
from vi_compare.approximation import set_up

RESTARTS, STEPS = 16, 2000


def test_vmapped_restarts_against_sequential_runs(compare):
    path = Path(__file__).parents[2] / "models" / "three_peaks.py"
    spec = importlib.util.spec_from_file_location("three_peaks", path)
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    model = script.model
    guide = AutoGaussianMixture(model, 2)
    set_up(guide, Target(model), jax.random.key(0))
    svi = SVI(model, guide, optax.adam(0.01), ReverseKL())
    keys = jax.random.split(jax.random.key(1), RESTARTS)
    one = lambda key: svi.run(key, STEPS, progress_bar=False).losses
    together = jax.jit(jax.vmap(one))
    compiled = jax.jit(one)

    def as_users_do():
        # SVI.run traces and compiles its scan again on every call
        return [one(key) for key in keys]

    def compiled_once():
        return [compiled(key) for key in keys]

    compare(
        "16 restarts, one vmap against SVI.run 16 times", lambda: together(keys), as_users_do, 2
    )
    compare("the same, with SVI.run under one jit", lambda: together(keys), compiled_once, 5)
