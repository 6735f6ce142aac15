"""Setting a guide up: NumPyro's own first call is the oracle."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from numpyro import handlers
from numpyro.infer import autoguide

from vi_compare.approximation import set_up
from vi_compare.target import Target

DATA = np.arange(5.0)


def hierarchy(y):
    mean = numpyro.sample("mean", dist.Normal(0.0, 1.0))
    spread = numpyro.sample("spread", dist.HalfNormal(1.0))
    with numpyro.plate("groups", len(y)):
        group = numpyro.deterministic("group", numpyro.sample("z", dist.Normal(mean, spread)))
        numpyro.sample("y", dist.Normal(group, 1.0), obs=y)


def gap(y):
    """Density 0 over seven eighths of where initial points are drawn."""
    x = numpyro.sample("x", dist.Normal(0.0, 1.0))
    numpyro.factor("only above", jnp.where(x > 1.5, 0.0, -jnp.inf))


def nowhere(y):
    x = numpyro.sample("x", dist.Normal(0.0, 1.0))
    numpyro.factor("not a number", jnp.nan * x)


def both(kind, model, seed=0):
    """The guide set up here, and one by its first call, from the same key."""
    ours, theirs = kind(model), kind(model)
    set_up(ours, Target(model, (DATA,)), jax.random.key(seed))
    with handlers.seed(rng_seed=jax.random.key(seed)):
        theirs(DATA)
    return ours, theirs


@pytest.mark.parametrize(
    "kind",
    [
        autoguide.AutoDiagonalNormal,
        autoguide.AutoMultivariateNormal,
        autoguide.AutoLaplaceApproximation,
        autoguide.AutoIAFNormal,
        autoguide.AutoDAIS,
    ],
)
def test_a_guide_is_set_up_as_its_first_call_would(kind):
    ours, theirs = both(kind, hierarchy)
    assert ours.model is hierarchy
    np.testing.assert_array_equal(ours._init_latent, theirs._init_latent)
    assert ours.prototype_trace.keys() == theirs.prototype_trace.keys()
    for name, site in theirs.prototype_trace.items():
        if site["type"] == "sample":
            assert type(ours.prototype_trace[name]["fn"]) is type(site["fn"])
            np.testing.assert_array_equal(ours.prototype_trace[name]["value"], site["value"])
    # what a guide keeps of its model is the model, and not what stood for it meanwhile
    away = jax.tree.map(lambda x: x + 0.3, theirs._init_locs)
    assert float(ours._potential_fn(away)) == float(theirs._potential_fn(away))
    values, known = ours._postprocess_fn(away), theirs._postprocess_fn(away)
    jax.tree.map(np.testing.assert_array_equal, values, known)


def test_another_point_is_found_where_the_first_has_no_density():
    """Eight keys: the chance that each finds one above 1.5 at once is 2 in 10⁸."""
    for seed in range(8):
        ours, theirs = both(autoguide.AutoDiagonalNormal, gap, seed)
        assert float(ours._init_latent[0]) > 1.5
        np.testing.assert_array_equal(ours._init_latent, theirs._init_latent)


def test_a_model_without_a_possible_point_is_refused_by_numpyro():
    with pytest.raises(RuntimeError, match="Cannot find valid initial parameters"):
        set_up(autoguide.AutoDiagonalNormal(nowhere), Target(nowhere, (DATA,)), jax.random.key(0))


def compiled(work) -> int:
    """How many programs `work` compiles that nobody has compiled before."""
    count = 0

    def heard(event, seconds, **_):
        nonlocal count
        count += event == "/jax/core/compile/backend_compile_duration"

    jax.monitoring.register_event_duration_secs_listener(heard)
    try:
        work()
    finally:
        jax.monitoring.unregister_event_duration_listener(heard)
    return count


def test_log_p_is_not_compiled_operation_by_operation():
    """Data of sizes that no other test has: what is of no size is compiled already."""
    kind, key = autoguide.AutoMultivariateNormal, jax.random.key(0)
    both(kind, hierarchy)
    ours, theirs = np.arange(37.0), np.arange(41.0)
    target = Target(hierarchy, (ours,))
    by_us = compiled(lambda: set_up(kind(hierarchy), target, key))
    by_numpyro = compiled(lambda: handlers.seed(kind(hierarchy), key)(theirs))
    assert by_us < 0.6 * by_numpyro, (by_us, by_numpyro)
