"""Fits of every kind of guide and loss that were stopped anywhere, and what they had left to gain.

Beside the Gaussians under reverse KL of `stopped.py`: mixtures, low rank, flows, guides written by
hand, forward KL, another divergence, minibatches. Plain Adam steps of many starts at two step
sizes are stopped after few and many steps, their last parameters averaged. What was left is a
closed form where target and family are Gaussian, else the naive mean of log-density ratios
(`scipy`, NumPyro) at many draws where the family holds the target, or quadrature and a long
deterministic search where it does not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import optax
import planted
from numpyro.distributions import constraints
from numpyro.infer import SVI
from numpyro.infer.autoguide import AutoLowRankMultivariateNormal, AutoMultivariateNormal
from scipy.optimize import minimize
from scipy.special import digamma, gammaln, logsumexp
from scipy.stats import multivariate_normal
from stopped import _gaussian_gap

from vi_compare import families
from vi_compare.approximation import GuideApproximation, set_up
from vi_compare.divergences.alpha import AmariAlpha
from vi_compare.divergences.forward_kl import ForwardKL
from vi_compare.divergences.reverse_kl import ReverseKL
from vi_compare.evidence import Draws
from vi_compare.guides import iaf, mixture
from vi_compare.solvers import Fit, Problem
from vi_compare.solvers._asked import asked
from vi_compare.target import Target
from vi_compare.verdict import Status

Params = dict[str, np.ndarray]
CHUNK = 100  # steps whose parameters are averaged
RATES = (0.003, 0.03)
STOPS = (2, 5, 10, 18, 30, 60)  # in chunks
ORACLE_DRAWS = 200_000


@dataclass(frozen=True)
class Kind:
    """A guide, a target and a loss.

    Attributes:
        excess: parameters -> nats of the loss that are left to gain, to the optimum near by.
        above: the same, to the best optimum, where that is another one.
        held_out: draws that judge a fit to others.
        spread: sd of the starts in the guide's unconstrained parameters.
    """

    name: str
    target: Target
    guide: Callable
    loss: object
    excess: Callable[[Params], float]
    held_out: Draws | None = None
    spread: float = 0.5
    above: Callable[[Params], float] | None = None

    def ends(self, seeds: int, stops: tuple[int, ...] = STOPS) -> Iterator[GuideApproximation]:
        """Parameters of every start, step size and stop."""
        set_up(self.guide, self.target, jax.random.key(0))
        svi = SVI(self.target.model, self.guide, optax.adam(1.0), self.loss)
        args, kwargs = self.target.args, self.target.kwargs

        @jax.jit
        @jax.vmap
        def follow(key, rate):
            first, move, key = jax.random.split(key, 3)
            svi.optim = numpyro.optim.optax_to_numpyro(optax.adam(rate))
            x = svi.optim.get_params(svi.init(first, *args, **kwargs).optim_state)
            flat, unravel = jax.flatten_util.ravel_pytree(x)
            moved = unravel(flat + self.spread * jax.random.normal(move, flat.shape))
            state = svi.init(key, *args, **kwargs)._replace(optim_state=svi.optim.init(moved))

            def step(carry, _):
                state, total = carry
                state, _ = svi.update(state, *args, **kwargs)
                now, _ = jax.flatten_util.ravel_pytree(svi.optim.get_params(state.optim_state))
                return (state, total + now), None

            def chunk(state, _):
                begin = (state, jnp.zeros_like(flat))
                (state, total), _ = jax.lax.scan(step, begin, length=CHUNK)
                return state, svi.constrain_fn(unravel(total / CHUNK))

            return jax.lax.scan(chunk, state, length=max(stops))[1]

        keys = jax.random.split(jax.random.key(1), seeds * len(RATES))
        found = jax.tree.map(np.asarray, follow(keys, jnp.repeat(jnp.array(RATES), seeds)))
        for run in range(len(keys)):
            for stop in stops:
                params = jax.tree.map(lambda a, r=run, s=stop: jnp.asarray(a[r, s - 1]), found)
                yield GuideApproximation(self.guide, params, self.target)

    def asked(self, q: GuideApproximation, seed: int) -> Fit:
        """The fit, which its solver calls converged, after it was asked."""
        problem = Problem(self.target, self.guide, self.loss, jax.random.key(seed), 1)
        fit = Fit(q, Status.CONVERGED, "the loss stands still", np.zeros((1, 1)), remedy="go on")
        return asked(problem, fit, self.held_out)

    def left(self, q: GuideApproximation) -> tuple[float, float]:
        """Nats to the optimum near by and to the best one."""
        params = {k: np.asarray(v) for k, v in families.arrays(q.params).items()}
        near = self.excess(params)
        return near, near if self.above is None else self.above(params)


# --- what is left, by formulas and naive means ----------------------------------------------


def _normal(d: int, scale: float, correlation: float) -> tuple[Callable, np.ndarray, np.ndarray]:
    """A model that is N(mean, covariance)."""
    mean = scale * np.where(np.arange(d) % 2, 1.0, -1.0)
    covariance = scale**2 * planted._chain(d, correlation)
    model = lambda: numpyro.sample("x", dist.MultivariateNormal(mean, covariance))
    return model, mean, covariance


def _near(kl: Callable, theta: np.ndarray, reach: float = 0.1, rounds: int = 300) -> float:
    """What a long deterministic search gains that goes no farther than `reach` in any parameter
    before it looks again, so that it jumps over no barrier; `kl` is of JAX, with its gradient."""
    slope = lambda x: tuple(np.asarray(part, float) for part in kl(x))
    begin = before = float(kl(theta)[0])
    for _ in range(rounds):
        box = list(zip(theta - reach, theta + reach, strict=True))
        found = minimize(slope, theta, jac=True, method="L-BFGS-B", bounds=box)
        theta = found.x
        if before - found.fun < 1e-6:
            break
        before = found.fun
    return begin - found.fun


def _kl(mean: np.ndarray, covariance: np.ndarray, moments: Callable) -> Callable[[Params], float]:
    """KL of a Gaussian guide, with `moments` (parameters) -> its own, to N(mean, covariance)."""
    excess = _gaussian_gap(mean, np.linalg.inv(covariance), 0.0)
    return lambda params: excess(*moments(params))


def low_rank(d: int = 6) -> Kind:
    rng = np.random.default_rng(0)
    mean, scales, factor = rng.normal(size=d), np.geomspace(0.1, 10.0, d), rng.normal(size=(d, 2))

    def covariance(scales, factor):
        return np.diag(scales**2) + (scales[:, None] * factor) @ (scales[:, None] * factor).T

    whole = covariance(scales, 2 * factor)
    precision, log_det = np.linalg.inv(whole), np.linalg.slogdet(whole)[1]

    @jax.jit
    @jax.value_and_grad
    def kl(theta):
        scales, own = jnp.exp(theta[d : 2 * d]), theta[2 * d :].reshape(d, 2)
        own = jnp.diag(scales**2) + (scales[:, None] * own) @ (scales[:, None] * own).T
        off = theta[:d] - mean
        square = jnp.trace(precision @ own) + off @ precision @ off
        return (square - d + log_det - jnp.linalg.slogdet(own)[1]) / 2

    def flat(p):
        parts = p["auto_loc"], np.log(p["auto_scale"]), p["auto_cov_factor"].ravel()
        return np.concatenate(parts)

    # Not every end of a factor's search is the best there is, which is 0.
    excess = lambda p: _near(kl, flat(p), 1.0)
    above = lambda p: float(kl(flat(p))[0])

    model = lambda: numpyro.sample("x", dist.MultivariateNormal(mean, whole))
    guide = AutoLowRankMultivariateNormal(model, rank=2)
    return Kind("low rank, 6-D", Target(model), guide, ReverseKL(), excess, above=above)


def by_hand_chain() -> Kind:
    """x ~ N(m, s), y ~ N(c x + d, t): a Gaussian with correlation, written site by site."""
    mean, covariance = np.array([3.0, -2.0]), np.array([[4.0, 3.4], [3.4, 4.0]])

    def model():
        x = numpyro.sample("x", dist.Normal(3.0, 2.0))
        numpyro.sample("y", dist.Normal(-2.0 + 0.85 * (x - 3.0), np.sqrt(4.0 - 3.4**2 / 4.0)))

    def guide():
        m, s = numpyro.param("m", 0.0), numpyro.param("s", 1.0, constraint=constraints.positive)
        c, d = numpyro.param("c", 0.0), numpyro.param("d", 0.0)
        t = numpyro.param("t", 1.0, constraint=constraints.positive)
        x = numpyro.sample("x", dist.Normal(m, s))
        numpyro.sample("y", dist.Normal(c * x + d, t))

    def own(p):
        across = p["c"] * p["s"] ** 2
        covariance = [[p["s"] ** 2, across], [across, p["c"] * across + p["t"] ** 2]]
        return np.array([p["m"], p["c"] * p["m"] + p["d"]]), np.array(covariance)

    return Kind("by hand, 2-D", Target(model), guide, ReverseKL(), _kl(mean, covariance, own))


def by_hand_gamma(shape: float = 700.0, rate: float = 87.0) -> Kind:
    def model():
        numpyro.sample("s", dist.Gamma(shape, rate))

    def guide():
        a = numpyro.param("a", 8.0, constraint=constraints.positive)
        b = numpyro.param("b", 1.0, constraint=constraints.positive)
        numpyro.sample("s", dist.Gamma(a, b))

    def kl(p):
        a, b = p["a"], p["b"]
        logs = gammaln(shape) - gammaln(a) + shape * (np.log(b) - np.log(rate))
        return float((a - shape) * digamma(a) + logs + a * (rate - b) / b)

    return Kind("gamma by hand, 1-D", Target(model), guide, ReverseKL(), kl)


def _mixture_of(p: Params) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """log weights (K,), means (K, d) and factors (K, d, d) of a guide that is one."""
    logits = p["auto_logits"]
    return logits - logsumexp(logits), p["auto_locs"], p["auto_scale_trils"]


def _log_mixture(u: np.ndarray, log_weights, means, trils) -> np.ndarray:
    parts = [multivariate_normal(m, t @ t.T).logpdf(u) for m, t in zip(means, trils, strict=True)]
    return logsumexp(np.stack(parts) + log_weights[:, None], axis=0)


def mixture_of_two(d: int = 3) -> Kind:
    """Two components for one correlated Gaussian, which they hold."""
    model, mean, covariance = _normal(d, 3.0, 0.8)
    tril = np.linalg.cholesky(covariance)

    def excess(p):
        log_weights, means, trils = _mixture_of(p)
        rng = np.random.default_rng(0)
        which = rng.choice(len(means), ORACLE_DRAWS, p=np.exp(log_weights))
        e = rng.normal(size=(ORACLE_DRAWS, d))
        u = means[which] + np.einsum("nij,nj->ni", trils[which], e)
        log_p = multivariate_normal(mean, tril @ tril.T).logpdf(u)
        return float((_log_mixture(u, log_weights, means, trils) - log_p).mean())

    guide = mixture.build(model, 2)
    return Kind("mixture:2 of a Gaussian, 3-D", Target(model), guide, ReverseKL(), excess)


def mixture_that_misses() -> Kind:
    """Two components for three peaks: the optimum near the end, by quadrature on the line."""
    known = planted.peaks()
    grid = np.linspace(-8, 8, 4001)
    log_p = known.log_p(grid[:, None])

    @jax.jit
    @jax.value_and_grad
    def kl(theta):
        log_weights = -jnp.logaddexp(0, jnp.array([-1.0, 1.0]) * theta[0])
        means, sds = theta[1:3, None], jnp.exp(theta[3:5, None])
        parts = jax.scipy.stats.norm.logpdf(grid, means, sds) + log_weights[:, None]
        log_q = jnp.logaddexp(*parts)
        return jnp.exp(log_q) @ (log_q - log_p) * (grid[1] - grid[0])

    def flat(p):
        log_weights, means, trils = _mixture_of(p)
        logit = log_weights[0] - log_weights[1]
        return np.concatenate([[logit], means[:, 0], np.log(trils[:, 0, 0])])

    # The middle peak and another one, in the proportion of their masses.
    two = np.array([np.log(0.4 / 0.3), 0.0, 2.0, np.log(0.3), np.log(0.3)])
    best = float(kl(two)[0]) - _near(kl, two)
    excess, above = lambda p: _near(kl, flat(p)), lambda p: float(kl(flat(p))[0]) - best
    target = Target(lambda: known.target.model(**known.target.kwargs))
    guide = mixture.build(target.model, 2)
    loss = ReverseKL()
    # Begun apart: two components on one peak are a saddle, of which chance alone tells.
    return Kind("mixture:2 of three peaks, 1-D", target, guide, loss, excess, None, 1.5, above)


def flow(d: int = 3) -> Kind:
    """A flow that holds a Gaussian of independent coordinates."""
    mean, scales = np.array([2.0, -1.0, 0.5]), np.array([0.3, 1.0, 3.0])

    def model():
        numpyro.sample("x", dist.Normal(mean, scales).to_event(1))

    guide = iaf.build(model)

    @jax.jit
    def ratios(params, key):
        posterior = guide.get_posterior(params)
        u = posterior.sample(key, (20_000,))
        return posterior.log_prob(u) - dist.Normal(mean, scales).log_prob(u).sum(-1)

    def excess(p):
        params = families.nested(p, families.first_parameters(guide, target, jax.random.key(0)))
        return float(np.mean([ratios(params, jax.random.key(i)).mean() for i in range(5)]))

    target = Target(model)
    return Kind("flow, 3-D", target, guide, ReverseKL(), excess, spread=0.1)


def forward_gaussian(d: int = 5, n: int = 5_000) -> Kind:
    """Forward KL of a Gaussian: what is left is its KL from the draws' own moments."""
    model, mean, covariance = _normal(d, 2.0, 0.7)
    target = Target(model)
    rng = np.random.default_rng(0)
    seen, held_out = (rng.multivariate_normal(mean, covariance, n) for _ in range(2))
    train, test = (target.complete(jnp.asarray(u)) for u in (seen, held_out))
    moments = seen.mean(0), np.cov(seen.T, bias=True)

    def excess(p):
        tril = p["auto_scale_tril"]
        centre, inverse = p["auto_loc"], np.linalg.inv(tril @ tril.T)
        return _gaussian_gap(centre, inverse, 0.0)(*moments)

    guide = AutoMultivariateNormal(model)
    return Kind("forward KL, mvn, 5-D", target, guide, ForwardKL(train), excess, test)


def forward_mixture(n: int = 10_000) -> Kind:
    """Forward KL of two components for a target of two, which it ends at; starts apart."""
    known = planted.pair()
    target = Target(lambda: known.target.model(**known.target.kwargs))
    rng = np.random.default_rng(0)
    train, test, u = (known.draw(rng, m) for m in (n, n, ORACLE_DRAWS))
    train, test = (target.complete(jnp.asarray(part)) for part in (train, test))
    log_p = known.log_p(u)
    excess = lambda p: float((log_p - _log_mixture(u, *_mixture_of(p))).mean())
    guide = mixture.build(target.model, 2)
    return Kind("forward KL, mixture:2, 2-D", target, guide, ForwardKL(train), excess, test, 1.0)


def between() -> Kind:
    """Amari's divergence at ½, −4 log ∫ √(pq), of a Gaussian on the line."""
    model = lambda: numpyro.sample("x", dist.Normal(2.0, 3.0))

    def excess(p):
        mean, sd = float(p["auto_loc"][0]), float(p["auto_scale_tril"][0, 0])
        total = 9.0 + sd**2
        return -4 * (np.log(6 * sd / total) / 2 - (mean - 2) ** 2 / (4 * total))

    guide = AutoMultivariateNormal(model)
    return Kind("Amari ½, 1-D", Target(model), guide, AmariAlpha(0.5), excess)


def minibatch(rows: int = 400, batch: int = 40) -> Kind:
    """A regression that sees a tenth of its rows at each step."""
    rng = np.random.default_rng(0)
    x = np.c_[np.ones(rows), rng.normal(1.0, 1.0, rows)]
    y = x @ [1.0, -2.0] + 2.0 * rng.normal(size=rows)

    def model(x, y):
        w = numpyro.sample("w", dist.Normal(0.0, 10.0).expand([2]).to_event(1))
        with numpyro.plate("rows", rows, subsample_size=batch) as i:
            numpyro.sample("y", dist.Normal(x[i] @ w, 2.0), obs=y[i])

    precision = x.T @ x / 4 + np.eye(2) / 100
    mean = np.linalg.solve(precision, x.T @ y / 4)

    def own(p):
        return p["auto_loc"], p["auto_scale_tril"] @ p["auto_scale_tril"].T

    target = Target(model, (jnp.asarray(x), jnp.asarray(y)))
    excess = _kl(mean, np.linalg.inv(precision), own)
    return Kind("minibatches, mvn, 2-D", target, AutoMultivariateNormal(model), ReverseKL(), excess)


@cache
def kinds() -> tuple[Kind, ...]:
    makers = (
        low_rank, by_hand_chain, by_hand_gamma, mixture_of_two, mixture_that_misses, flow,
        forward_gaussian, forward_mixture, between, minibatch,
    )  # fmt: skip
    return tuple(make() for make in makers)
