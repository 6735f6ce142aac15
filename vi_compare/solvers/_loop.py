"""The loop under stochastic solvers: compiled chunks of SVI steps, many restarts at once.

``numpyro.infer.SVI.run`` has no stop, no callback, and does not say where a NaN came
from; this loop has all three, on SVI's own ``init`` and ``update``.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array
from jax.flatten_util import ravel_pytree
from numpyro.infer import SVI

from vi_compare.approximation import GuideApproximation
from vi_compare.divergences import CARRIED, Divergence
from vi_compare.solvers._not_finite import blame
from vi_compare.target import Target

Parameters = tuple[dict[str, np.ndarray], dict[str, np.ndarray]]  # searched, the guide's own


@dataclass(frozen=True)
class Pace:
    """How often the loop looks at the losses, and what it judges them by.

    Attributes:
        chunk: number of steps that run compiled between two looks: enough to hide the cost of
            a look, few enough to stop in time.
        window: number of last chunks. The loss has stopped falling when the mean of the newer
            half of them is no lower than that of the older half by more than `certain` standard
            errors.
        certain: see `window`.
    """

    chunk: int = 200
    window: int = 6
    certain: float = 2.0

    @property
    def half(self) -> int:
        """Chunks of the newer half of the window."""
        return self.window - self.window // 2


@dataclass
class Trajectory:
    """The losses and parameters of R restarts, chunk by chunk.

    Attributes:
        pace: steps of a chunk, and chunks of the window.
        losses: one (R, pace.chunk) array per chunk.
        means: one (R, P) array per chunk: the flat unconstrained parameters, averaged.
        failed: (R,) "" or where and why a restart stopped being finite.
        phase_chunks: chunks done at the last step size.
        stationary: whether every phase ended by the test, not by the limit.
    """

    pace: Pace
    losses: list[np.ndarray] = field(default_factory=list)
    means: list[np.ndarray] = field(default_factory=list)
    failed: np.ndarray = field(default_factory=lambda: np.zeros(0, dtype=object))
    phase_chunks: int = 0
    stationary: bool = False

    @property
    def steps(self) -> int:
        return self.pace.chunk * len(self.losses)

    def loss(self) -> np.ndarray:
        """(R, steps)"""
        return np.concatenate(self.losses, axis=1)

    def fall(self) -> tuple[np.ndarray, np.ndarray]:
        """Fall of the mean loss within the window (R,), and its standard error (R,)."""
        old, new = self._halves()
        with np.errstate(invalid="ignore"):
            error = np.sqrt(old.var(axis=0, ddof=1) + new.var(axis=0, ddof=1))
            return old.mean(axis=0) - new.mean(axis=0), error / np.sqrt(len(old))

    def _halves(self) -> tuple[np.ndarray, np.ndarray]:
        """Mean losses of the chunks of the older and of the newer half of the window, (n, R)."""
        means = np.stack([chunk.mean(axis=1) for chunk in self.losses[-self.pace.window :]])
        return means[: -self.pace.half], means[-self.pace.half :]

    def still(self) -> bool:
        """Whether every restart that lives, and can still become the best, has stopped falling."""
        fall, error = (x[self.failed == ""] for x in self.fall())
        moving = fall > self.pace.certain * error
        return not (moving & self._in_the_running(fall, error)).any()

    def _in_the_running(self, fall: np.ndarray, error: np.ndarray) -> np.ndarray:
        """Whether each restart that lives would be as good as the best, within the best one's
        error, after as many more chunks as there were so far. Each half window is taken to close
        the same share of its distance as the last one did.

        A start far out can fall by thousands of nats for all the steps there are, and the others
        would wait for it.
        """
        newer = self._halves()[1].mean(axis=0)[self.failed == ""]
        best = np.argmin(newer)
        behind = newer - newer[best]
        before = behind + np.maximum(fall - fall[best], 0.0)
        kept = np.divide(behind, before, out=np.zeros_like(before), where=before > 0)
        left = behind * kept ** (len(self.losses) / self.pace.half)
        return left <= self.pace.certain * error[best]

    def tail(self) -> np.ndarray:
        """(chunks, R, P) chunk means at the last step size."""
        return np.stack(self.means[-max(1, self.phase_chunks) :])


class Placed:
    """A loss of parameters that stand for the guide's own; all that SVI asks of a loss."""

    can_infer_discrete = False

    def __init__(self, loss: Divergence, place: Callable[[dict], dict]):
        self._loss, self._place = loss, place

    def loss(self, rng_key, param_map, model, guide, *args, **kwargs):
        return self._loss.loss(rng_key, self._place(param_map), model, guide, *args, **kwargs)

    def loss_with_mutable_state(self, rng_key, param_map, model, guide, *args, **kwargs):
        params = {name: value for name, value in param_map.items() if name != CARRIED}
        placed = self._place(params) | {CARRIED: param_map[CARRIED]}
        return self._loss.loss_with_mutable_state(rng_key, placed, model, guide, *args, **kwargs)


class Loop:
    """Runs SVI from given starts until the loss has stopped falling at every step size.

    Args:
        target, guide, divergence: what to fit; the guide must have been set up.
        rates: Adam's step sizes, one phase each.
        least: minimum number of chunks of a phase; the window at least.
        steps: limit on the steps of all phases together.
        place: the parameters that are searched, constrained -> the guide's own.
        pace: steps of a chunk, and chunks of the window.

    Attributes:
        trajectory: the losses and parameters so far.
        carried: what the loss kept from step to step, with a leading axis R, or None.
    """

    _unravel: Callable[[Array], dict]  # known once the steps have been traced

    def __init__(
        self,
        target: Target,
        guide: Callable,
        divergence: Divergence,
        rates: Sequence[float],
        least: int,
        steps: int,
        place: Callable[[dict], dict] = lambda params: params,
        pace: Pace = Pace(),
    ):
        adam = optax.inject_hyperparams(optax.adam)(learning_rate=rates[0])
        carrying = divergence.guide_with_state(target.model, guide)
        self.svi = SVI(target.model, carrying, adam, Placed(divergence, place))
        self.place = place
        self.target, self.guide = target, guide
        self.rates, self.least, self.steps = rates, max(least, pace.window), steps
        self.chunk = pace.chunk
        self.compile_seconds = 0.0
        self.trajectory = Trajectory(pace)
        self.carried = None

    def run(self, starts: dict[str, Array], key: Array, progress: Callable) -> Parameters:
        """From start parameters with a leading axis R -> the averages of all steps at the
        last step size, as `constrain` has them.

        ``self.trajectory`` tells how it went; `progress(done, total, words)` is called
        after every chunk.
        """
        begin = time.perf_counter()
        state, chunk = self._compile(starts, key)
        compiled = time.perf_counter()
        self._go(state, chunk, progress)
        params = self.constrain(self.trajectory.tail().mean(axis=0))
        self.compile_seconds = compiled - begin
        return params

    def _compile(self, starts, key):
        restarts = len(jax.tree.leaves(starts)[0])
        self.trajectory.failed = np.full(restarts, "", dtype=object)
        begin = lambda start, r: self._begin(start, jax.random.fold_in(key, r))
        state = jax.jit(jax.vmap(begin))(starts, np.arange(restarts))
        return state, jax.jit(self._chunk).lower(state).compile()

    def _begin(self, start: dict[str, Array], key: Array):
        return self.svi.init(key, *self.target.args, init_params=start, **self.target.kwargs)

    def _step(self, state):
        return self.svi.update(state, *self.target.args, **self.target.kwargs)

    def _flat(self, state) -> Array:
        flat, self._unravel = ravel_pytree(self.svi.optim.get_params(state.optim_state))
        return flat

    def _chunk(self, state):
        # All restarts inside the scan: the scan inside a vmap would be traced twice.
        def step(carry, _):
            state, total = carry
            state, loss = jax.vmap(self._step)(state)
            return (state, total + jax.vmap(self._flat)(state)), loss

        start = (state, jnp.zeros_like(jax.vmap(self._flat)(state)))
        (state, total), losses = jax.lax.scan(step, start, length=self.chunk)
        return state, losses.T, total / self.chunk

    def _go(self, state, chunk, progress: Callable) -> None:
        seen, phase = self.trajectory, 0
        for done in range(self.chunk, self.steps + 1, self.chunk):
            before, (state, losses, mean) = state, chunk(state)
            self.carried = (state.mutable_state or {}).get(CARRIED)
            self._keep(before, np.asarray(losses), np.asarray(mean))
            alive = seen.failed == ""
            if not alive.any():
                return
            progress(done, self.steps, f"loss {seen.losses[-1][alive].mean(axis=1).min():.4g}")
            if seen.phase_chunks < self.least or not seen.still():
                continue
            phase += 1
            if phase == len(self.rates):
                seen.stationary = True
                return
            rate = np.full(len(alive), self.rates[phase], jnp.result_type(float))
            state = optax.tree_utils.tree_set(state, learning_rate=rate)
            seen.phase_chunks = 0

    def _keep(self, before, losses: np.ndarray, mean: np.ndarray) -> None:
        seen = self.trajectory
        seen.losses.append(losses)
        seen.means.append(mean)
        seen.phase_chunks += 1
        broken = ~np.isfinite(losses).all(axis=1) | ~np.isfinite(mean).all(axis=1)
        for r in np.flatnonzero(broken & (seen.failed == "")):
            one = jax.tree.map(lambda leaf, r=r: leaf[r], before)
            seen.failed[r] = self._replay(one, seen.steps - self.chunk)

    def _replay(self, state, done: int) -> str:
        """Run one restart again from the start of its chunk; name the first NaN."""
        update = jax.jit(self._step)
        for step in range(done + 1, done + self.chunk + 1):
            new, loss = update(state)
            if not (jnp.isfinite(loss) & jnp.isfinite(self._flat(new)).all()):
                params = self.place(self.svi.get_params(state))
                q = GuideApproximation(self.guide, params, self.target)
                return f"step {step}: {blame(q, state.rng_key)}"
            state = new
        return f"steps {done + 1} to {done + self.chunk}: not finite, but finite when run alone"

    def constrain(self, flat: np.ndarray) -> Parameters:
        """Flat unconstrained parameters (R, P) -> constrained, with a leading axis R: those
        that are searched, and the guide's own."""

        def one(row):
            searched = self.svi.constrain_fn(self._unravel(row))
            return searched, self.place(searched)

        return jax.tree.map(np.asarray, jax.jit(jax.vmap(one))(flat))
