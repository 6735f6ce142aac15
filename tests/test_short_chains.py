"""Short chains from inside and outside: they sample the target, weigh its modes, and tell when they
have not been through it. Oracles: closed forms, quadrature, and draws by numpy alone."""

from __future__ import annotations

import json
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from jsonschema import Draft202012Validator
from scipy import stats
from targets import ROOT

from vi_compare import Study
from vi_compare.gaussian.frames import Frame
from vi_compare.randomness import key_for
from vi_compare.reference.hmc import Moves, Steps, advance
from vi_compare.reference.looks import LookLimits, look, normal_scores
from vi_compare.reference.places import find_places
from vi_compare.reference.regions import Partition, shares
from vi_compare.reference.settled import chains_reference
from vi_compare.reference.short_chains import Tuning, sample, within
from vi_compare.report.blocks import Table
from vi_compare.report.sections.reference import section
from vi_compare.report.view import View
from vi_compare.script import load
from vi_compare.settings import EFFORTS, Effort, Settings
from vi_compare.target import Target
from vi_compare.verdict import Concern

QUICK = Effort(500, 60_000)


def silent(*_):
    pass


def drawn(target, effort=QUICK, seed=0):
    return sample(target, key_for(seed, "reference/chains"), effort, silent)


def two_peaks():
    """Unequal weights and widths, no prior to start from."""
    x = numpyro.sample("x", dist.ImproperUniform(dist.constraints.real, (), ()))
    parts = dist.Normal(jnp.array([-4.0, 3.0]), jnp.array([0.5, 1.0]))
    mixture = dist.MixtureSameFamily(dist.Categorical(probs=jnp.array([0.2, 0.8])), parts)
    numpyro.factor("peaks", mixture.log_prob(x))


def correlated():
    """Five coordinates, scales from 0.01 to 100, correlations of 0.9."""
    scales = jnp.logspace(-2, 2, 5)
    correlation = 0.1 * jnp.eye(5) + 0.9
    covariance = scales[:, None] * correlation * scales
    x = numpyro.sample("x", dist.ImproperUniform(dist.constraints.real_vector, (), (5,)))
    numpyro.factor("normal", dist.MultivariateNormal(scales, covariance).log_prob(x))


def thin_ridge():
    m = numpyro.sample("m", dist.Dirichlet(jnp.ones(3)))
    numpyro.sample("a", dist.Normal(m[0], 1e-4))


Y = np.random.default_rng(3).normal(np.repeat([-3.0, 1.0, 5.0], [40, 30, 50]), 1.0)


def labels(y):
    """A mixture whose labels nothing orders: six modes of one mass."""
    w = numpyro.sample("w", dist.Dirichlet(jnp.ones(3)))
    mu = numpyro.sample("mu", dist.Normal(0.0, 5.0).expand([3]).to_event(1))
    s = numpyro.sample("s", dist.LogNormal(0.0, 0.5))
    parts = dist.MixtureSameFamily(dist.Categorical(probs=w), dist.Normal(mu, s))
    numpyro.sample("y", parts, obs=y)


def model(name):
    return load(str(ROOT / "models" / f"{name}.py")).target()


# --- one block ------------------------------------------------------------------------


def stay(log_density, partition, u, region, blocks=6, seed=0):
    """Positions (chains, d) after some blocks from u."""
    target = SimpleTarget(log_density)
    steps = Steps(jnp.log(0.7), jnp.zeros(len(u)))
    for key in jax.random.split(jax.random.key(seed), blocks):
        found = advance(target, Moves(), partition, u, region, steps, jnp.zeros(()), key)
        u = found.u[:, -1]
    return np.asarray(u)


class SimpleTarget(SimpleNamespace):
    """What `advance` asks of a target."""

    def __init__(self, log_density):
        super().__init__(log_density=log_density)

    def __hash__(self):
        return id(self.log_density)

    def over_points(self, function):
        return jax.vmap(function)


def test_a_block_leaves_draws_of_the_target_what_they_are():
    """4,000 exact draws of a Student t with five degrees of freedom in three coordinates, moved by
    48 iterations. Kolmogorov and Smirnov's test of each coordinate at a level of 1e-5 / 3: a right
    sampler fails once in 100,000 seeds; a wrong acceptance is far off."""
    rng = np.random.default_rng(0)
    u = stats.t(df=5).rvs((4000, 3), random_state=rng)
    partition = Partition.of([Frame(np.zeros(3), np.eye(3))])
    moved = stay(
        lambda x: -3 * jnp.log1p(x**2 / 5).sum(), partition, jnp.asarray(u), jnp.zeros(4000, int)
    )
    assert np.abs(np.corrcoef(u[:, 0], moved[:, 0])[0, 1]) < 0.1  # they did move
    for column in moved.T:
        assert stats.kstest(column, stats.t(df=5).cdf).pvalue > 1e-5 / 3


def test_chains_sample_the_target_inside_their_region_and_stay_there():
    """A normal, cut at 0.5 into two regions by Gaussians of one width: truncated normals."""
    frames = [Frame(np.array([-1.0]), np.eye(1)), Frame(np.array([2.0]), np.eye(1))]
    partition = Partition.of(frames)
    region = jnp.arange(4000) % 2
    starts = jnp.where(region == 0, -1.0, 2.0)[:, None]
    moved = stay(lambda x: -0.5 * x @ x, partition, starts, region, blocks=12)[:, 0]
    left, right = moved[::2], moved[1::2]
    assert (left < 0.5).all()
    assert (right > 0.5).all()
    assert stats.kstest(left, stats.truncnorm(-np.inf, 0.5).cdf).pvalue > 1e-5
    assert stats.kstest(right, stats.truncnorm(0.5, np.inf).cdf).pvalue > 1e-5


# --- looks ----------------------------------------------------------------------------


def chains(rng, n=64, iterations=40, worth=8, columns=3):
    """Autoregressive chains (chains, iterations, columns), stationary, about so much worth."""
    rho = (iterations - worth) / (iterations + worth)
    x = [rng.standard_normal((n, columns))]
    for _ in range(iterations - 1):
        x.append(rho * x[-1] + np.sqrt(1 - rho**2) * rng.standard_normal((n, columns)))
    return np.stack(x, axis=1)


OUTSIDE = np.arange(64) % 2 == 1


def seen(x, rng, starts=None):
    starts = rng.standard_normal((len(x), x.shape[2])) if starts is None else starts
    return look(normal_scores(x), starts, OUTSIDE)


def test_chains_that_have_forgotten_are_rarely_taken_not_to_have():
    """At most 1 % by design, some of it by the normal limit of means of 32: of 300 sets at most
    10 are called unsettled. Binomial(300, 0.01) is above 10 once in 10,000."""
    rng = np.random.default_rng(1)
    unsettled = sum(not seen(chains(rng), rng).is_settled for _ in range(300))
    assert unsettled <= 10


@pytest.mark.parametrize("test", ["bracket", "trend", "memory"])
def test_what_tells_where_chains_started_is_seen(test):
    """Each of 20 sets, with one column that tells by one standard deviation or as much in all."""
    rng = np.random.default_rng(2)
    for _ in range(20):
        x, starts = chains(rng), rng.standard_normal((64, 3))
        if test == "bracket":
            x[OUTSIDE, :, 1] *= 1.6
        elif test == "trend":
            x[..., 1] += np.linspace(-0.6, 0.6, 40)
        else:
            x[..., 1] += 0.8 * starts[:, 1:2]
        found = seen(x, rng, starts)
        assert not found.is_settled
        assert getattr(found, test) > found.limit


def test_chains_that_have_not_been_through_the_target_are_not_settled():
    """They are worth about one draw, whatever else is looked at."""
    rng = np.random.default_rng(3)
    for _ in range(20):
        found = seen(chains(rng, worth=1.2), rng)
        assert found.worth < LookLimits().worth
        assert not found.is_settled


def test_a_look_at_heavy_tails_is_one_at_their_ranks():
    rng = np.random.default_rng(4)
    x = chains(rng)
    starts = rng.standard_normal((64, 3))
    plain, cubed = seen(x, rng, starts), seen(np.sinh(3 * x), rng, starts)
    assert plain == cubed


# --- places and regions ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "regions"), [("three_peaks", 3), ("breast_cancer", 1), ("eight_schools_noncentred", 1)]
)
def test_ascents_find_the_modes_that_there_are(name, regions):
    found = find_places(model(name), jax.random.key(0))
    assert len(found.frames) == regions
    assert not found.is_countless


def test_a_mode_that_no_usual_start_reaches_is_found_from_wider_ones():
    """At 20, with usual starts between −2 and 2 and another mode among them."""

    def far():
        x = numpyro.sample("x", dist.ImproperUniform(dist.constraints.real, (), ()))
        parts = dist.Normal(jnp.array([0.0, 20.0]), 1.0)
        mixture = dist.MixtureSameFamily(dist.Categorical(probs=jnp.array([0.5, 0.5])), parts)
        numpyro.factor("peaks", mixture.log_prob(x))

    found = find_places(Target(far), jax.random.key(0))
    # Each Gaussian is at its mode to the rounding of an ascent's end.
    assert np.sort([frame.mean[0] for frame in found.frames]) == pytest.approx([0, 20], abs=0.01)


def test_more_modes_than_can_be_counted_are_said_to_be():
    """Two to the sixteenth."""
    found = chains_reference(model("many_well"), 0, 2000, QUICK, silent)
    assert Concern.MISSED_MODE in {doubt.kind for doubt in found.doubts}


@pytest.mark.parametrize("seed", range(3))
def test_regions_weigh_what_quadrature_says(seed):
    """Within four of their own standard errors, of which none is above 0.02; that the worst of
    three seeds and two regions is beyond four happens once in 2,600."""
    found = drawn(Target(two_peaks), seed=seed)
    assert found.look.is_settled
    grid = np.linspace(-12, 12, 200_001)
    density = 0.2 * stats.norm(-4, 0.5).pdf(grid) + 0.8 * stats.norm(3, 1).pdf(grid)
    region = np.asarray(found.partition.region_of(jnp.asarray(grid[:, None])))
    true = np.array([density[region == k].sum() for k in range(2)]) * (grid[1] - grid[0])
    masses, errors = shares(found.masses)
    assert (errors < 0.02).all()
    assert (np.abs(masses - true) < 4 * errors).all()
    whole = np.logaddexp.reduce([e.value for e in found.masses])
    assert abs(whole) < 4 * max(e.standard_error for e in found.masses)  # log Z is 0


def test_labels_that_nothing_orders_share_the_mass():
    """A sixth each. NUTS from random starts has as many chains in each as began there."""
    found = drawn(Target(labels, kwargs={"y": Y}), Effort(2_000, 300_000))
    assert found.look.is_settled
    masses, errors = shares(found.masses)
    assert len(masses) == 6
    # The worst of six beyond four standard errors: once in 2,600.
    assert (np.abs(masses - 1 / 6) < 4 * errors).all()
    assert masses == pytest.approx(np.full(6, 1 / 6), rel=0.1)


# --- all together ---------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(3))
def test_moments_of_a_correlated_gaussian(seed):
    """Scales from 0.01 to 100, correlated. Means within 5 standard errors, which rest on chains
    alone: 15 of them, one in 100,000."""
    found = drawn(Target(correlated), seed=seed)
    assert found.look.is_settled
    scales = np.logspace(-2, 2, 5)
    z = (found.u - scales) / scales
    means = z.mean(axis=1)
    error = means.std(axis=0, ddof=1) / np.sqrt(len(means))
    assert (np.abs(means.mean(axis=0)) < 5 * error).all()
    squares = (z**2).mean(axis=1)
    error = squares.std(axis=0, ddof=1) / np.sqrt(len(means))
    assert (np.abs(squares.mean(axis=0) - 1) < 5 * error).all()


@pytest.mark.parametrize("target", [lambda: model("funnel"), lambda: Target(thin_ridge)])
def test_what_short_chains_cannot_go_through_is_said(target):
    found = chains_reference(target(), 0, 2000, QUICK, silent)
    assert Concern.STILL_MOVING in {doubt.kind for doubt in found.doubts}


def test_the_same_seed_draws_the_same():
    first, second = (drawn(Target(two_peaks), Effort(100, 8_000)) for _ in range(2))
    assert np.array_equal(first.u, second.u)
    assert first.masses == second.masses


def test_parts_share_no_chain_and_see_every_region_in_the_same_share():
    """Of each part of m draws, as near as whole numbers of draws allow."""
    found = drawn(Target(two_peaks), seed=0)
    reference = chains_reference(Target(two_peaks), 0, 2000, QUICK, silent)
    masses, _ = shares(found.masses)
    parts = [np.asarray(p.u)[:, 0] for p in (reference.train, reference.pilot, reference.bridge)]
    for part in parts:
        mine = np.asarray(found.partition.region_of(jnp.asarray(part[:, None])))
        share = np.bincount(mine, minlength=2) / len(part)
        assert share == pytest.approx(masses, abs=1.5 / len(part))
    for i, one in enumerate(parts):
        assert not any(np.isin(one, other).any() for other in parts[:i])
    assert reference.doubts == () or {d.kind for d in reference.doubts} == {Concern.FEW_DRAWS}


def test_a_run_on_short_chains_names_what_a_fit_misses_and_shows_what_they_did():
    """One Gaussian on the heavier of two peaks drops a fifth of the target."""
    study = Study(two_peaks, fits=["mvn/reverse-kl"], restarts=4)
    found = study.run(Settings(draws=2000, reference="chains", effort="quick"))
    schema = json.loads((ROOT / "vi_compare" / "results.schema.json").read_text())
    Draft202012Validator(schema).validate(json.loads(json.dumps(found.results)))
    assert found.verdicts == {"mvn/reverse-kl": "Misses modes"}
    reference = found.results["target"]["reference"]
    assert reference["source"] == "chains"
    assert reference["doubts"] == []
    assert [r["share"] for r in reference["settings"]["regions"]] == pytest.approx(
        [0.8, 0.2], abs=0.03
    )
    assert reference["settings"]["gradients_spent"] <= 2 * EFFORTS["quick"].most
    shown = section(View.of(found))
    assert "Many short chains" in shown.lead
    [table] = [block for block in shown.blocks if isinstance(block, Table)]
    titles = " ".join(row.cells[0].text for row in table.rows)
    for part in ("inside against", "Second halves", "Rank correlation", "worth", "Regions around"):
        assert part in titles


@pytest.mark.parametrize("regions", [1, 2, 3, 5, 6, 7, 40])
def test_every_quarter_has_as_many_chains_of_each_kind(regions):
    tuning = Tuning()
    n = tuning.number(regions, EFFORTS["normal"])
    index = np.arange(n)
    quarter = index % tuning.quarters
    side = index // tuning.quarters % tuning.sides
    region = index // (tuning.quarters * tuning.sides) % regions
    counts = np.bincount((quarter * tuning.sides + side) * regions + region)
    assert n <= max(tuning.most, tuning.each * regions)
    assert np.ptp(counts) == 0
    assert len(counts) == tuning.quarters * tuning.sides * regions


def test_the_effort_is_cut_where_log_p_takes_long():
    fast = within(EFFORTS["normal"], SimpleNamespace(operations=100.0))
    assert fast == EFFORTS["normal"]
    slow = within(EFFORTS["normal"], SimpleNamespace(operations=1e6))
    assert slow.most * 1e6 == pytest.approx(1e11, rel=1e-3)
    assert within(EFFORTS["thorough"], SimpleNamespace(operations=1e6)).most == 10 * slow.most
