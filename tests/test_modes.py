"""Modes: as many as there are, where they are, with the mass of each basin."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from oracles import THREE_PEAKS
from targets import script

from vi_compare.evidence import Draws
from vi_compare.reference.modes import ModeSearch, NoModes, find_modes
from vi_compare.target import Target

N = 3000


def draws(u) -> Draws:
    return Draws(jnp.asarray(u), {})


def test_three_peaks_are_three():
    x = THREE_PEAKS.draw(np.random.default_rng(0), N)
    # q sits on the left peak alone
    q = np.random.default_rng(1).normal(-2.0, 0.3, N)
    target = Target(script("three_peaks").model)
    found = find_modes(target, {"test": draws(x[:, None]), "q": draws(q[:, None])})
    places = found.locations[:, 0]
    # the peaks move by less than 0.001 under the tails of their neighbours
    np.testing.assert_allclose(np.sort(places), [-2, 0, 2], atol=0.01)
    # Saddles by bisection of the slope; between them the exact masses.
    grid = np.linspace(-2, 2, 40001)
    p = THREE_PEAKS.log_pdf(grid)
    low = grid[:20000][np.argmin(p[:20000])]
    high = grid[20000:][np.argmin(p[20000:])]
    left, right = float(THREE_PEAKS.cdf(low)), 1 - float(THREE_PEAKS.cdf(high))
    truth = {-2: left, 0: 1 - left - right, 2: right}
    for place, share in zip(places, found.shares["test"], strict=True):
        p = truth[round(place)]
        # 4.5 standard errors of a proportion: one false alarm in 50,000
        assert abs(share - p) < 4.5 * np.sqrt(p * (1 - p) / N)
    assert found.shares["q"][np.argmin(places)] > 0.99
    assert found.n == N
    assert found.shares["test"][0] == found.shares["test"].max()


CENTRES = np.array([[0.0, 0.0], [4.0, 0.0], [0.0, 4.0], [-4.0, 0.0], [3.0, -4.0]])
WEIGHTS = np.array([0.4, 0.25, 0.2, 0.1, 0.05])


def five():
    parts = dist.MultivariateNormal(jnp.asarray(CENTRES), 0.3 * jnp.eye(2))
    numpyro.sample("z", dist.MixtureSameFamily(dist.Categorical(jnp.asarray(WEIGHTS)), parts))


def test_five_in_the_plane_are_five():
    rng = np.random.default_rng(2)
    part = rng.choice(5, N, p=WEIGHTS)
    u = CENTRES[part] + np.sqrt(0.3) * rng.normal(size=(N, 2))
    found = find_modes(Target(five), {"test": draws(u)})
    assert len(found.locations) == 5
    for centre, weight in zip(CENTRES, WEIGHTS, strict=True):
        distance = np.linalg.norm(found.locations - centre, axis=1)
        assert distance.min() < 0.02
        share = found.shares["test"][np.argmin(distance)]
        # overlap is below 0.1 %; beside it 4.5 standard errors
        assert abs(share - weight) < 0.002 + 4.5 * np.sqrt(weight * (1 - weight) / N)


def gaussian10():
    scale = jnp.logspace(-1, 1, 10)
    numpyro.sample("z", dist.Normal(jnp.arange(10.0), scale).to_event(1))


def correlated():
    covariance = jnp.array([[1.0, 0.99], [0.99, 1.0]])
    numpyro.sample("z", dist.MultivariateNormal(jnp.zeros(2), covariance))


def funnel():
    v = numpyro.sample("v", dist.Normal(0.0, 3.0))
    numpyro.sample("x", dist.Normal(0.0, jnp.exp(v / 2)))


def banana():
    x = numpyro.sample("x", dist.Normal(0.0, 1.0))
    numpyro.sample("y", dist.Normal(x**2, 0.2))


def sample(model, rng):
    z = rng.normal(size=(N, 2))
    if model is gaussian10:
        return np.arange(10.0) + np.logspace(-1, 1, 10) * rng.normal(size=(N, 10))
    if model is correlated:
        return z @ np.linalg.cholesky([[1.0, 0.99], [0.99, 1.0]]).T
    if model is funnel:
        v = 3 * z[:, 0]
        return np.stack([v, np.exp(v / 2) * z[:, 1]], axis=1)
    return np.stack([z[:, 0], z[:, 0] ** 2 + 0.2 * z[:, 1]], axis=1)


@pytest.mark.parametrize("model", [gaussian10, correlated, banana, funnel])
def test_one_mode_is_not_many(model):
    """A ridge on which ascents stop early must not fall apart into modes."""
    found = find_modes(Target(model), {"test": draws(sample(model, np.random.default_rng(4)))})
    assert len(found.locations) == 1


def test_too_many_dimensions_are_declined_in_words():
    dim = ModeSearch().dimensions + 1

    def wide():
        numpyro.sample("z", dist.Normal(0.0, 1.0).expand([dim]).to_event(1))

    found = find_modes(Target(wide), {"test": draws(np.zeros((5, dim)))})
    assert isinstance(found, NoModes)
    assert "dimensions" in found.reason


def test_a_shallow_dent_is_a_mode_only_to_a_finer_search():
    """Two normals of sd 1 at ±1.15: log p dips by 0.056 nats between them, less than 0.1."""

    def dent():
        parts = dist.Normal(jnp.array([-1.15, 1.15]), 1.0)
        numpyro.sample("x", dist.MixtureSameFamily(dist.Categorical(jnp.ones(2) / 2), parts))

    u = np.random.default_rng(5).normal(np.repeat([-1.15, 1.15], N // 2))[:, None]
    number = lambda search: len(find_modes(Target(dent), {"test": draws(u)}, search).names)
    assert number(ModeSearch()) == 1
    assert number(ModeSearch(saddle=0.01)) == 2


# --- angles ------------------------------------------------------------------------------


def compass(*centres, concentration=20.0):
    """A site of angles, von Mises around each of the centres alike, and a number beside it."""

    def model():
        parts = dist.VonMises(jnp.array(centres), concentration)
        weights = dist.Categorical(jnp.ones(len(centres)) / len(centres))
        heading = numpyro.sample("heading", dist.VonMises(0.0, 1e-12))
        numpyro.factor("peaks", dist.MixtureSameFamily(weights, parts).log_prob(heading))
        numpyro.sample("speed", dist.Normal(2.0, 1.0))

    return Target(model)


@pytest.mark.parametrize(
    ("centres", "shares"),
    [((3.13,), (1.0,)), ((-3.1, 0.0), (0.5, 0.5)), ((3.0, -1.0, 1.0), (1 / 3,) * 3),
     ((2.6, -2.6), (0.5, 0.5))],
)  # fmt: skip
def test_one_mode_at_the_end_of_a_circle_is_one(centres, shares):
    """Concentration 20 is an sd of 0.22: centres 1.08 apart across the end, as 2.6 and −2.6 are,
    are two modes, one at 3.13 is one. Shares by 4.5 standard errors."""
    target, rng = compass(*centres), np.random.default_rng(0)
    which = rng.integers(len(centres), size=4_000)
    heading = rng.vonmises(np.array(centres)[which], 20.0)
    draws = target.draws({"heading": heading, "speed": rng.normal(2.0, 1.0, 4_000)})
    found = find_modes(target, {"test": draws})
    assert len(found.names) == len(centres)
    np.testing.assert_allclose(found.shares["test"], shares, atol=4.5 * 0.5 / np.sqrt(found.n))
