"""A target is asked who it is before it is measured: what it is refused for, and what is told."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from numpyro import handlers
from numpyro.distributions import constraints

from vi_compare.errors import InputError
from vi_compare.run.identity import refuse_what_has_no_answer, told
from vi_compare.starts import starting_points
from vi_compare.target import Target

Y = jnp.array([0.3, 1.1, 0.8, 0.4])


def refused(model, **data) -> str:
    """The one line that the model is refused with; "" where it is taken."""
    target = Target(model, (), data)
    try:
        refuse_what_has_no_answer(target, starting_points(target, jax.random.key(0), 32))
    except InputError as error:
        return str(error)
    return ""


def forgotten(y=None):
    m = numpyro.sample("m", dist.Normal(0.0, 1.0))
    numpyro.sample("y", dist.Normal(m, 1.0), obs=y)


def in_a_plate(x, y=None, sd=None):
    b = numpyro.sample("b", dist.Normal(0.0, 1.0))
    with numpyro.plate("rows", len(x)):
        numpyro.sample("y", dist.Normal(b * x, 1.0 if sd is None else sd), obs=y)


def test_an_argument_left_at_none_is_named_with_its_site():
    assert "argument 'y' was left at None, so its data, site 'y'" in refused(forgotten)
    assert "argument 'y' was left at None" in refused(in_a_plate, x=Y)


def test_what_is_none_on_purpose_and_what_is_no_data_is_taken():
    assert refused(forgotten, y=None) == ""
    assert refused(in_a_plate, x=Y, y=Y) == ""  # sd is None, and is no data of a site


def dropout(y):
    b = numpyro.sample("b", dist.Normal(0.0, 1.0))
    keep = jax.random.bernoulli(numpyro.prng_key(), 0.5, y.shape)
    numpyro.sample("y", dist.Normal(b * keep, 0.1), obs=y)


def hierarchy(y):
    m = numpyro.sample("m", dist.Normal(0.0, 1.0))
    t = numpyro.sample("t", dist.Normal(m, 1.0))
    numpyro.sample("y", dist.Normal(t, 1.0), obs=y)


def asks_in_vain(y):
    """As a network does, which sets itself up by a key and then has its weights sampled."""
    numpyro.prng_key()
    hierarchy(y)


def test_a_density_that_is_another_at_every_call_is_refused():
    assert "another at every call: random numbers are drawn" in refused(dropout, y=Y)
    hidden = handlers.block(hierarchy, hide=["t"])
    assert "site 't', hidden by handlers.block" in refused(hidden, y=Y)
    assert refused(hierarchy, y=Y) == ""
    assert refused(asks_in_vain, y=Y) == ""


def half_seen(y, seen):
    level = numpyro.sample("level", dist.Normal(0.0, 5.0))
    with numpyro.plate("rows", len(y)):
        numpyro.sample("y", dist.Normal(level, 1.0), obs=y, obs_mask=seen)


def flat(name, log_p, support=constraints.real):
    def model():
        numpyro.sample("b", dist.Normal(0.0, 1.0))
        a = numpyro.sample(name, dist.ImproperUniform(support, (), ()))
        numpyro.factor("f", log_p(a))

    return model


def test_a_direction_without_density_is_named():
    seen = jnp.array([True, False, True, True])
    said = refused(half_seen, y=Y, seen=seen)
    assert "does not depend on y_unobserved[0], y_unobserved[2], y_unobserved[3] at all" in said
    assert "does not depend on a at all" in refused(flat("a", lambda a: 0.0 * a))
    # flat over a bounded range is a proper uniform
    assert refused(flat("a", lambda a: 0.0 * a, constraints.unit_interval)) == ""
    # flat near the starts alone: quadratic beyond 10
    assert refused(flat("a", lambda a: -(jnp.maximum(abs(a) - 10.0, 0.0) ** 2))) == ""


@pytest.mark.parametrize("period", [2 * np.pi, np.pi, 24.0, 365.0, 1.0])
def test_a_direction_that_turns_is_named_with_its_period(period):
    said = refused(flat("hour", lambda a: 3 * jnp.cos(2 * jnp.pi * (a - 5.0) / period)))
    assert f"repeats itself along hour with period {period:.4g}" in said


def test_a_trend_beside_a_season_is_no_period():
    assert refused(flat("t", lambda a: 3 * jnp.cos(a) - a**2 / 1e4)) == ""


def test_circles_and_constant_entries_are_told():
    def model():
        numpyro.sample("heading", dist.VonMises(3.0, 2.0))
        numpyro.sample("L", dist.LKJCholesky(3, 1.5))

    target = Target(model)
    assert refused(model) == ""
    angle, constant = told(target)
    assert "site 'heading' is an angle" in angle
    assert constant.startswith("4 entries of site 'L' never vary")
