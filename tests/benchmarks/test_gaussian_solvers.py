"""The default solver of Gaussian guides against what others offer for the same family.

Stochastic peers are given what nobody has in practice: the best of three step sizes, judged
by the ELBO as measured here, each with ten times our gradients. Seconds are of whole fits,
compiling and tracing included on all sides, as a user waits for them; of three step sizes the
median. Draws the figure of the README: gap to the best ELBO of all against seconds.

    uv run --group benchmarks pytest tests/benchmarks/test_gaussian_solvers.py
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import blackjax
import conftest
import jax
import jax.monitoring
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax
import pytest
from jax.scipy.stats import norm
from numpyro.infer import SVI, Trace_ELBO

from vi_compare import ReverseKL, catalogue
from vi_compare.approximation import GuideApproximation
from vi_compare.solvers import Problem, whitened
from vi_compare.starts import starting_points
from vi_compare.target import Target
from vi_compare.timing import JAX_EVENTS

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tests"))
from targets import script  # noqa: E402
from test_whitened import regression  # noqa: E402

MODELS = (
    "badly_scaled",
    "conjugate_regression",
    "eight_schools_centred",
    "breast_cancer",
    "varying_slopes",
)
RATES, TIMES, PARTICLES, STARTS, PATH_DRAWS = (0.1, 0.01, 0.001), 10, 16, 10, 200
DRAWS, BATCH = 100_000, 1000
FIGURE = ROOT / "docs" / "gaussian_solvers.png"

SPENT = {"seconds": 0.0}
jax.monitoring.register_event_duration_secs_listener(
    lambda event, seconds, **_: (
        SPENT.update(seconds=SPENT["seconds"] + seconds) if event in JAX_EVENTS else None
    )
)


@dataclass(frozen=True)
class Result:
    """log p − log q (n,) at draws of q, seconds of the fit and what JAX compiled of them."""

    excess: np.ndarray
    seconds: float
    compiling: float

    @property
    def elbo(self) -> float:
        mean = float(self.excess.mean())
        return mean if np.isfinite(mean) else -np.inf


RESULTS: dict[tuple[str, str], dict[str, Result]] = {}


def target(name: str) -> Target:
    if name == "badly_scaled":
        return Target(regression("all at once")[0])
    return script(name).study.target()


def timed(fit: Callable[[], Callable[[], np.ndarray]]) -> Result:
    """`fit()` is timed; what it returns draws from the result, and is not."""
    jax.clear_caches()
    SPENT["seconds"], begin = 0.0, time.perf_counter()
    draw = fit()
    seconds, compiling = time.perf_counter() - begin, SPENT["seconds"]
    return Result(draw(), seconds, compiling)


def excess(q, n: int = DRAWS) -> np.ndarray:
    draws = q.sample(jax.random.key(99), n)
    return np.asarray(draws.log_p - draws.log_q)


# --- the peers ------------------------------------------------------------------------------


def numpyro_svi(goal: Target, guide: str, gradients: int, rate: float, n: int = DRAWS):
    """NumPyro's SVI as in its tutorials: where an AutoGuide starts, a fixed step size."""
    made = catalogue.load("guides", guide).build(goal.model)
    svi = SVI(goal.model, made, optax.adam(rate), Trace_ELBO(PARTICLES))
    steps = max(100, gradients // PARTICLES)
    done = svi.run(jax.random.key(0), steps, *goal.args, progress_bar=False, **goal.kwargs)
    return lambda: excess(GuideApproximation(made, done.params, goal), n)


def blackjax_vi(goal: Target, guide: str, gradients: int, rate: float, n: int = DRAWS):
    """BlackJAX's fullrank_vi or meanfield_vi, in its own loop of steps under one scan."""
    make, factor = {
        "mvn": (blackjax.fullrank_vi, blackjax.vi.fullrank_vi._unflatten_cholesky),
        "normal": (blackjax.meanfield_vi, lambda rho, dim: jnp.diag(jnp.exp(rho))),
    }[guide]
    method = make(goal.log_density, optax.adam(rate), PARTICLES)

    @jax.jit
    def run(state, key):
        keys = jax.random.split(key, max(100, gradients // PARTICLES))
        return jax.lax.scan(lambda s, k: method.step(k, s), state, keys)[0]

    state = jax.block_until_ready(run(method.init(jnp.zeros(goal.dim)), jax.random.key(0)))

    def draw():
        # log q by way of the noise: its covariance matrix may be beyond float64's reach
        mean, scales = state[:2]
        tril = factor(scales, goal.dim)
        noise = jax.random.normal(jax.random.key(99), (n, goal.dim))
        log_q = norm.logpdf(noise).sum(-1) - jnp.log(jnp.diagonal(tril)).sum()
        return at(goal, mean + noise @ tril.T, log_q)

    return draw


def multipathfinder(goal: Target, guide: str, gradients: int, rate: float, n: int = DRAWS):
    """BlackJAX's multi-path Pathfinder as it comes; the Gaussian of the best path."""
    starts = starting_points(goal, jax.random.key(0), STARTS)
    run = jax.jit(
        lambda key: blackjax.vi.multipathfinder.multi_approximate(
            key, goal.log_density, starts, PATH_DRAWS
        )[0]
    )
    state = jax.block_until_ready(run(jax.random.key(0)))
    elbo = jnp.nan_to_num((state.logp - state.logq).mean(axis=1), nan=-jnp.inf)
    best = jax.tree.map(lambda leaf: leaf[int(jnp.argmax(elbo))], state.path_states)

    def draw():
        u, log_q = blackjax.vi.pathfinder.sample(jax.random.key(99), best, n)
        return at(goal, u, log_q)

    return draw


def at(goal: Target, u, log_q) -> np.ndarray:
    log_p = jax.lax.map(goal.log_density, jnp.asarray(u), batch_size=BATCH)
    return np.asarray(log_p - log_q)


PEERS = {
    "NumPyro SVI, Adam": (numpyro_svi, RATES, ("mvn", "normal")),
    "BlackJAX fullrank_vi": (blackjax_vi, RATES, ("mvn",)),
    "BlackJAX meanfield_vi": (blackjax_vi, RATES, ("normal",)),
    "BlackJAX multipathfinder": (multipathfinder, (0.0,), ("mvn",)),
}


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("guide", ["mvn", "normal"])
def test_against_others(name, guide, benchmark):
    goal = target(name)
    gradients = 0

    def ours():
        nonlocal gradients
        made = catalogue.load("guides", guide).build(goal.model)
        fit = whitened.build().solve(Problem.of(goal, made, ReverseKL(), jax.random.key(0), STARTS))
        gradients = fit.cost.gradient_evaluations
        return lambda: excess(fit.approximation)

    found = {"vi_compare": timed(ours)}
    for label, (run, rates, guides) in PEERS.items():
        if guide not in guides:
            continue
        tried = [
            timed(lambda run=run, rate=rate: run(goal, guide, TIMES * gradients, rate))
            for rate in rates
        ]
        best = max(tried, key=lambda result: result.elbo)
        middle = lambda what, tried=tried: median(getattr(result, what) for result in tried)
        found[label] = Result(best.excess, middle("seconds"), middle("compiling"))
    RESULTS[name, guide] = found
    benchmark.pedantic(lambda: None, rounds=1)
    conftest.LINES.append(f"{name} {guide}, {gradients} gradients, ten times as many for Adam:")
    conftest.LINES += [f"    {label:26} {row}" for label, row in rows(found).items()]


def rows(found: dict[str, Result]) -> dict[str, str]:
    out = {}
    for label, result in found.items():
        gap, error = gap_to_best(found, result)
        out[label] = (
            f"{gap:.3g} ± {error:.1g} nats below the best in {result.seconds:.3g} s, "
            f"{result.compiling:.2g} s of them compiling"
        )
    return out


def gap_to_best(found: dict[str, Result], one: Result) -> tuple[float, float]:
    best = max(found.values(), key=lambda result: result.elbo)
    if one is best:
        return 0.0, 0.0
    spread = np.hypot(one.excess.std(), best.excess.std()) / np.sqrt(len(best.excess))
    return best.elbo - one.elbo, float(spread)


def test_the_figure():
    """Of what was measured just now; compiling in the median over models, too."""
    if len(RESULTS) < 2 * len(MODELS):
        pytest.skip("only where all models have been run")
    for label in ("vi_compare", *PEERS):
        compiling = [found[label].compiling for found in RESULTS.values() if label in found]
        conftest.LINES.append(f"{label}: median of compiling {median(compiling):.2g} s")
    figure, axes = plt.subplots(1, 2, figsize=(9, 3.6), sharey=True, layout="constrained")
    for ax, guide in zip(axes, ("mvn", "normal"), strict=True):
        for (label, *_), marker in zip([("vi_compare",), *PEERS.items()], "o^sDv", strict=True):
            points = [
                (found[label].seconds, gap_to_best(found, found[label])[0])
                for (_, its), found in RESULTS.items()
                if its == guide and label in found
            ]
            if points:
                x, y = zip(*points, strict=True)
                ax.plot(x, np.clip(y, 1e-3, 1e5), marker, label=label, alpha=0.8)
        ax.set(xscale="log", yscale="log", xlabel="seconds of the whole fit", title=guide)
        ax.grid(alpha=0.3)
    shown = {
        label: line
        for ax in axes
        for line, label in zip(*ax.get_legend_handles_labels(), strict=True)
    }
    figure.legend(shown.values(), shown.keys(), loc="outside lower center", ncols=5, fontsize=8)
    axes[0].set_ylabel("nats below the best ELBO\n(0.001: that or less)")
    figure.savefig(FIGURE, dpi=110)
