"""Gradients of NUTS in the frame of the draws against NumPyro's NUTS as it comes, at equal ESS."""

from __future__ import annotations

from pathlib import Path

import arviz as az
import jax
import numpy as np
import pytest
from numpyro.infer import MCMC, NUTS

from vi_compare.reference.nuts_chains import FramedChains, Sampling
from vi_compare.script import load
from vi_compare.starts import starting_points

MODELS = Path(__file__).parents[2] / "models"
# Of the gallery, those that NUTS can be believed on and that have no exact draws.
NAMES = ("breast_cancer", "eight_schools_noncentred", "gaussian_process",
         "stochastic_volatility", "varying_slopes")  # fmt: skip
DRAWS = 1000  # of each chain
WANTED = 1000  # ESS, of the worst coordinate and of its square
SEEDS = 3


def least_ess(u):
    """Of u (chains, n, d) and its squares."""
    data = az.convert_to_dataset({"u": u, "square": (u - u.mean(axis=(0, 1))) ** 2})
    return float(az.ess(data, method="mean").to_array().min())


def in_frame(target, seed):
    """(gradients of the warm-up, of the draws, ESS)"""
    chains = FramedChains(target, jax.random.key(seed), Sampling())
    chains.warm_up(jax.random.key(100 + seed))
    warm = chains.gradients
    blocks = [chains.block()[0] for _ in range(DRAWS // chains.sampling.block)]
    return warm, chains.gradients - warm, least_ess(np.concatenate(blocks, axis=1))


def as_it_comes(target, seed):
    """The same of the sampler that a model's author would run: 1,000 steps of warm-up."""
    s = Sampling()
    kernel = NUTS(
        potential_fn=lambda u: -target.log_density(u),
        target_accept_prob=s.accept,
        dense_mass=target.dim <= s.dense,
    )
    mcmc = MCMC(kernel, num_warmup=1000, num_samples=DRAWS, num_chains=s.chains,
                chain_method="vectorized", progress_bar=False)  # fmt: skip
    starts = starting_points(target, jax.random.key(seed), s.chains)
    mcmc.warmup(jax.random.key(100 + seed), init_params=starts, extra_fields=("num_steps",),
                collect_warmup=True)  # fmt: skip
    steps = lambda: int(np.asarray(mcmc.get_extra_fields()["num_steps"]).sum())
    warm = steps()
    mcmc.run(mcmc.post_warmup_state.rng_key, extra_fields=("num_steps",))
    return warm, steps(), least_ess(np.asarray(mcmc.get_samples(group_by_chain=True)))


@pytest.mark.parametrize("name", NAMES)
def test_nuts_in_the_frame_against_nuts_as_it_comes(name):
    target = load(str(MODELS / f"{name}.py")).target()
    ratios = []
    for seed in range(SEEDS):
        needs = []
        for how in (in_frame, as_it_comes):
            warm, drawn, ess = how(target, seed)
            needs.append(warm + drawn * WANTED / ess)
            print(f"\n{name}, seed {seed}, {how.__name__}: {warm:,} + {drawn:,}, ESS {ess:.0f},"
                  f" {needs[-1]:,.0f} for ESS {WANTED:,}", end="")  # fmt: skip
        ratios.append(needs[1] / needs[0])
    print(f"\n{name}: {np.median(ratios):.1f} times fewer ({min(ratios):.1f} to {max(ratios):.1f})")
