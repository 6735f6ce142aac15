"""Quasi-Newton minimisation that many searches can share one batched evaluation of.

A search is a generator: it yields the point at which it asks for the objective, and is sent
the value and the gradient there. A value of +inf is a step too long, never an error. The line
search is the bisection for the weak Wolfe conditions of Lewis and Overton (2013, "Nonsmooth
optimization via quasi-Newton methods", Mathematical Programming 141); BFGS and its limited
memory form follow Nocedal and Wright (2006, "Numerical Optimization", chapters 6 and 7).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np


@dataclass(frozen=True)
class LineSearch:
    """When a step along a direction is accepted (the weak Wolfe conditions).

    Attributes:
        decrease: share of the decrease that the gradient promises which a step must attain;
            the usual value for quasi-Newton methods, as is the next one.
        flattening: the directional derivative must rise to this share of the one at the start.
        trials: maximum number of trial points; forty bisections narrow a step to 1e-12 of
            its length.
    """

    decrease: float = 1e-4
    flattening: float = 0.9
    trials: int = 40


class Point(NamedTuple):
    """x (d,), the value () and the gradient (d,) there."""

    x: np.ndarray
    value: float
    gradient: np.ndarray


Descent = Generator[np.ndarray, tuple[float, np.ndarray], list[Point]]


class InverseHessian(Protocol):
    """An estimate of the inverse Hessian, learned from the steps of a search."""

    def times(self, g: np.ndarray) -> np.ndarray: ...

    def learn(self, s: np.ndarray, y: np.ndarray) -> None: ...


class Dense:
    """BFGS: the whole matrix (d, d)."""

    def __init__(self) -> None:
        self.inverse: np.ndarray | None = None

    def times(self, g: np.ndarray) -> np.ndarray:
        return g if self.inverse is None else self.inverse @ g

    def learn(self, s: np.ndarray, y: np.ndarray) -> None:
        """From a step s and the change of the gradient y, with s·y > 0."""
        sy = s @ y
        if self.inverse is None:
            self.inverse = np.eye(len(s)) * (sy / (y @ y))
        hy = self.inverse @ y
        self.inverse += np.outer(s, s) * ((1 + y @ hy / sy) / sy)
        cross = np.outer(hy, s) / sy
        self.inverse -= cross + cross.T


class Limited:
    """L-BFGS: the last `memory` pairs, in two loops."""

    def __init__(self, memory: int):
        self.pairs: deque[tuple[np.ndarray, np.ndarray]] = deque(maxlen=memory)

    def times(self, g: np.ndarray) -> np.ndarray:
        if not self.pairs:
            return g
        q, kept = g.copy(), []
        for s, y in reversed(self.pairs):
            share = (s @ q) / (s @ y)
            q -= share * y
            kept.append(share)
        s, y = self.pairs[-1]
        q *= (s @ y) / (y @ y)
        for (s, y), share in zip(self.pairs, reversed(kept), strict=True):
            q += s * (share - (y @ q) / (s @ y))
        return q

    def learn(self, s: np.ndarray, y: np.ndarray) -> None:
        self.pairs.append((s, y))


def descend(
    start: np.ndarray,
    make: Callable[[], InverseHessian],
    steps: int,
    small: float,
    patience: int = 3,
) -> Descent:
    """Search from `start` (d,); returns every iterate, the first one among them.

    Args:
        start: (d,).
        make: a new estimate of the inverse Hessian, which knows nothing yet.
        steps: maximum number of steps.
        small: a gain below this, in the objective's units, is small.
        patience: this many small gains in a row end the search; one alone can be an unlucky
            direction. The search also ends where no step gains.
    """
    here = Point(start, *(yield start))
    path, inverse_hessian, fresh, idle = [here], make(), True, 0
    while np.isfinite(here.value) and len(path) <= steps and idle < patience:
        there = yield from _step(here, inverse_hessian, fresh)
        if there is None:
            if fresh:
                break
            inverse_hessian, fresh = make(), True  # rounding has spoilt the estimate
            idle += 1
            continue
        s, y = there.x - here.x, there.gradient - here.gradient
        if s @ y > 1e-14 * np.linalg.norm(s) * np.linalg.norm(y):
            inverse_hessian.learn(s, y)
            fresh = False
        idle = idle + 1 if here.value - there.value < small else 0
        here = there
        path.append(here)
    return path


def _step(
    here: Point, inverse_hessian: InverseHessian, fresh: bool
) -> Generator[np.ndarray, tuple[float, np.ndarray], Point | None]:
    """The next iterate, along −H g; None where that leads up, or nowhere lower."""
    direction = -inverse_hessian.times(here.gradient)
    length = np.linalg.norm(direction)
    if fresh and length > 1:  # nothing is known yet of the scale
        direction = direction / length
    if not (np.isfinite(length) and direction @ here.gradient < 0):
        return None
    return (yield from _line_search(here, direction))


def _line_search(
    here: Point, direction: np.ndarray, rules: LineSearch = LineSearch()
) -> Generator[np.ndarray, tuple[float, np.ndarray], Point | None]:
    """The first point that meets both conditions of `rules`; where no trial does, the farthest
    one that meets the first, or None."""
    low, high, length = 0.0, np.inf, 1.0
    derivative, fell = direction @ here.gradient, None
    for _ in range(rules.trials):
        x = here.x + length * direction
        there = Point(x, *(yield x))
        if not there.value <= here.value + rules.decrease * length * derivative:
            high = length
        elif direction @ there.gradient < rules.flattening * derivative:
            low, fell = length, there
        else:
            return there
        length = (low + high) / 2 if np.isfinite(high) else 2 * low
        if high - low < 1e-12 * high:
            break
    return fell


def together(
    searches: list[Descent], evaluate: Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]
) -> list[list[Point]]:
    """Run searches side by side: `evaluate` takes the points (n, d) that are asked for and
    returns values (n,) and gradients (n, d)."""
    asked = {i: next(search) for i, search in enumerate(searches)}
    paths: list[list[Point]] = [[] for _ in searches]
    while asked:
        values, gradients = evaluate(np.stack(list(asked.values())))
        for i, value, gradient in zip(list(asked), values, gradients, strict=True):
            try:
                asked[i] = searches[i].send((float(value), gradient))
            except StopIteration as end:
                paths[i] = end.value
                del asked[i]
    return paths
