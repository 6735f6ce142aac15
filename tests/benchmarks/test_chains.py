"""How short chains move, against BlackJAX's dynamic HMC with ChEES adaptation: gradients for an
effective draw of the worst margin. Same target in the same frame, same 128 starts, which are
draws already, one gradient counted for each leapfrog step of each chain.

    uv run --group benchmarks pytest tests/benchmarks/test_chains.py
"""

from __future__ import annotations

from pathlib import Path

import arviz_stats as azs
import blackjax
import conftest
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from vi_compare.randomness import key_for
from vi_compare.reference.hmc import Moves, Steps, advance
from vi_compare.reference.regions import Partition
from vi_compare.reference.short_chains import sample
from vi_compare.script import load
from vi_compare.settings import EFFORTS

MODELS = Path(__file__).parents[2] / "models"
NAMES = ("breast_cancer", "eight_schools_noncentred", "gaussian_process", "varying_slopes",
         "stochastic_volatility")  # fmt: skip
KEPT, WARM = 80, 100  # iterations of each chain


def least_ess(v):
    """Of v (chains, n, d) and its squares."""
    columns = np.concatenate([v, (v - v.mean(axis=(0, 1))) ** 2], axis=2)
    found = [
        azs.base.array_stats.ess(columns[..., j], method="mean") for j in range(len(columns[0, 0]))
    ]
    return float(np.min(found))


def ours(target, partition, u):
    """(gradients of the warm-up, of the draws, ESS)"""
    region, moves = jnp.zeros(len(u), int), Moves()
    steps = Steps(jnp.log(jnp.asarray(0.5)), jnp.zeros(len(u)))
    spent, kept = [], []
    for number in range((KEPT + moves.block) // moves.block):
        rate = jnp.asarray(0.0 if number else 1.0)
        found = advance(target, moves, partition, u, region, steps, rate, jax.random.key(number))
        u, steps = found.u[:, -1], steps._replace(common=found.common)
        spent.append(int(found.leapfrogs) * len(u))
        kept.append(np.asarray(found.u))
    v = np.asarray(
        partition.frames[0].into(np.concatenate(kept[1:], axis=1).reshape(-1, u.shape[1]))
    )
    return spent[0], sum(spent[1:]), least_ess(v.reshape(len(u), -1, u.shape[1]))


def chees(target, partition, u):
    frame = partition.frames[0]
    mean, tril = jnp.asarray(frame.mean), jnp.asarray(frame.tril)
    log_p = lambda v: target.log_density(mean + tril @ v)
    v = jnp.asarray(frame.into(np.asarray(u)))
    warmup = blackjax.chees_adaptation(log_p, len(v))
    (states, tuned), info = warmup.run(
        jax.random.key(0), v, step_size=0.5, optim=optax.adam(0.025), num_steps=WARM
    )
    warm = int(np.asarray(info.info.num_integration_steps).sum())
    kernel = blackjax.dynamic_hmc(log_p, **tuned).step

    @jax.jit
    def run(states, key):
        def one(states, key):
            keys = jax.random.split(key, len(v))
            states, info = jax.vmap(kernel)(keys, states)
            return states, (states.position, info.num_integration_steps)

        return jax.lax.scan(one, states, jax.random.split(key, KEPT))[1]

    found, spent = run(states, jax.random.key(1))
    return warm, int(np.asarray(spent).sum()), least_ess(np.asarray(found).swapaxes(0, 1))


@pytest.mark.parametrize("name", NAMES)
def test_gradients_for_an_effective_draw(name, benchmark):
    target = load(str(MODELS / f"{name}.py")).target()
    found = sample(target, key_for(0, "reference/chains"), EFFORTS["normal"], lambda *_: None)
    assert len(found.partition) == 1
    partition, u = Partition.of(found.partition.frames), jnp.asarray(found.u[:, -1])
    for label, run in {"ours": ours, "BlackJAX": chees}.items():
        warm, spent, ess = run(target, partition, u)
        conftest.LINES.append(
            f"{name:26} {label:9} {spent / ess:6.1f} gradients for an effective draw, "
            f"{spent / len(u) / KEPT:.1f} an iteration, warm-up {warm:,}"
        )
    benchmark.pedantic(lambda: None, rounds=1)
