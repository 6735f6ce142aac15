"""Guides written in the script: from its names to a fit, and what is said of bad ones."""

from __future__ import annotations

import re
import subprocess
import sys
import textwrap

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from numpyro.infer.autoguide import AutoBNAFNormal, AutoDelta, AutoNormal
from scipy import stats

from vi_compare import Settings, Study, families, script
from vi_compare.errors import InputError
from vi_compare.solvers import Problem
from vi_compare.target import Target

MODEL = """
    import jax.numpy as jnp
    import numpyro
    import numpyro.distributions as dist

    def model():
        numpyro.sample("scale", dist.LogNormal(0.3, 0.5))
        numpyro.sample("x", dist.Normal(jnp.array([1.0, -2.0]), 1.5).to_event(1))

    def mine():
        loc = numpyro.param("loc", jnp.zeros(2))
        sd = numpyro.param("sd", 0.1, constraint=dist.constraints.positive)
        numpyro.sample("x", dist.Normal(loc, sd).to_event(1))
        spread = numpyro.param("spread", 0.1, constraint=dist.constraints.positive)
        numpyro.sample("scale", dist.LogNormal(numpyro.param("level", 0.0), spread))

    guides = {"mine": mine}
"""


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    path = tmp_path_factory.mktemp("own") / "own.py"
    path.write_text(textwrap.dedent(MODEL), encoding="utf-8")
    return path


def test_a_guide_of_the_script_is_fitted_to_the_optimum_that_is_known(path):
    """The target lies in its family: locations 1, −2 and level 0.3, sds 1.5 and 0.5.

    Each within 6 standard errors that the fit itself gives, and those below 0.05."""
    study = script.load(path)
    prepared = study.prepare(Settings(reference="none"))
    assert [plan.name for plan in prepared.plans][-1] == "mine/reverse-kl"
    plan = prepared.plans[-1]
    problem = Problem(prepared.target, plan.guide, plan.divergence, jax.random.key(0), 4)
    fit = plan.solver.solve(problem)
    assert fit.status == "converged"
    assert all(row.status == "finished" for row in fit.restarts)
    found = {k: np.asarray(v) for k, v in fit.approximation.params.items()}
    truth = {"level": 0.3, "loc": [1.0, -2.0], "sd": 1.5, "spread": 0.5}
    assert found.keys() == truth.keys()
    error = 6 * np.sqrt(np.diag(fit.covariance))
    assert error.max() < 0.3
    off = np.concatenate([np.atleast_1d(found[k] - np.asarray(v)) for k, v in truth.items()])
    assert (np.abs(off) < error + 1e-6).all()


def test_check_on_the_command_line_takes_it(path):
    words = [sys.executable, "-m", "vi_compare", "check", path, "--fit"]
    run = lambda label: subprocess.run(
        [*words, label, "--reference", "none"], capture_output=True, text=True, timeout=300
    )
    done = run("mine/reverse-kl")
    assert done.returncode == 0, done.stderr
    assert re.search(r"mine/reverse-kl +svi +about \d+ s", done.stdout)
    done = run("mime/reverse-kl")
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "did you mean mine" in done.stderr


# --- what cannot be used ---------------------------------------------------------------


def pair():
    numpyro.sample("x", dist.Normal(0.0, 1.0))
    numpyro.sample("y", dist.Normal(0.0, 1.0))


def auxiliary():
    h = numpyro.sample("helper", dist.Normal(0.0, 1.0))
    numpyro.sample("x", dist.Normal(h, 1.0))
    numpyro.sample("y", dist.Normal(0.0, 1.0))


def half():
    numpyro.sample("x", dist.Normal(0.0, 1.0))


def wrong():
    raise KeyError("no such thing")


def with_an_argument(data):
    auxiliary()


@pytest.mark.parametrize(
    ("guide", "words"),
    [
        (auxiliary, "also draws 'helper'.*log q is not"),
        (half, "never draws 'y'"),
        (wrong, "KeyError.*no such thing"),
        (with_an_argument, "TypeError.*data"),
        (AutoBNAFNormal(pair), "does not have an analytic inverse"),
        (AutoDelta(pair), "AutoDelta is a point"),
    ],
)
def test_a_guide_that_cannot_be_compared_is_refused_before_any_fit(guide, words):
    study = Study(pair, guides={"mine": guide}, fits=["mine/reverse-kl"])
    with pytest.raises(InputError, match=f"(?s)the guide 'mine'.*{words}"):
        study.prepare(Settings(reference="none"))


def test_an_autoguide_made_of_the_model_is_taken_as_it_is():
    study = Study(pair, guides={"auto": AutoNormal(pair)}, fits=["auto/reverse-kl"])
    plan = study.prepare(Settings(reference="none")).plans[0]
    assert plan.guide is study.guides["auto"]
    assert plan.full.startswith("auto()/reverse-kl")


# --- where its restarts begin ------------------------------------------------------------


def constrained():
    numpyro.param("sd", jnp.full(3, 0.01), constraint=dist.constraints.positive)
    numpyro.param("share", jnp.ones(3) / 3, constraint=dist.constraints.simplex)
    numpyro.param("fresh", lambda key: jax.random.normal(key, (2,)))
    half()


def test_restarts_of_a_hand_written_guide_begin_apart_and_within_the_constraints():
    """log sd is moved by a standard normal: 600 moves, Kolmogorov-Smirnov, one false alarm
    in 10,000 seeds."""
    target = Target(half)
    first = families.first_parameters(constrained, target, jax.random.key(0))
    place = lambda key: families.family(constrained).spread(first, target, key, jnp.zeros((4, 1)))
    starts = jax.vmap(place)(jax.random.split(jax.random.key(1), 200))
    assert (starts["sd"] > 0).all()
    np.testing.assert_allclose(starts["share"].sum(axis=1), 1.0)
    moved = np.log(np.asarray(starts["sd"]) / 0.01).ravel()
    assert stats.kstest(moved, "norm").pvalue > 1e-4
    assert len(np.unique(starts["fresh"])) == 400


def factored():
    loc = numpyro.param("loc", 0.0)
    x = numpyro.sample("x", dist.Normal(loc, 1.0))
    numpyro.factor("shape", -(x**2))


def test_a_factor_in_a_guide_is_refused_by_name():
    """Its draws do not follow the factor, so that no density of it is that of its draws."""

    def model():
        numpyro.sample("x", dist.Normal(0.0, 1.0))

    study = Study(model, fits=["mine/reverse-kl"], guides={"mine": factored})
    with pytest.raises(InputError, match="observed site 'shape'"):
        study.prepare(Settings(reference="none"))
