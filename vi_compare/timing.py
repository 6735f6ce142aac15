"""Where the time of a command goes: seconds by named stage, printed by ``--profile``.

Always on, because a clock costs a microsecond and the stages are few. ::

    with timed("measuring"):
        with timed("khat"):
            ...
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

# Durations that JAX reports, and what they are called.
JAX_EVENTS = {
    "/jax/core/compile/jaxpr_trace_duration": "tracing",
    "/jax/core/compile/jaxpr_to_mlir_module_duration": "lowering",
    "/jax/core/compile/backend_compile_duration": "compiling, or reading the cache",
}


@dataclass
class TimedStage:
    """One stage of a command.

    Attributes:
        seconds: wall clock, all its visits together.
        visits: number of times it was entered.
        stages: the stages inside it, in the order of the first visit.
    """

    seconds: float = 0.0
    visits: int = 0
    stages: dict[str, TimedStage] = field(default_factory=dict)

    def rows(self, depth: int = 0) -> Iterator[tuple[int, str, float, int]]:
        """(depth, name, seconds, visits) of every stage inside this one; where they do not
        add up to it, a row "the rest"."""
        for name, stage in self.stages.items():
            yield depth, name, stage.seconds, stage.visits
            yield from stage.rows(depth + 1)
        rest = self.seconds - sum(stage.seconds for stage in self.stages.values())
        if self.stages and rest > 0.05:
            yield depth, "the rest", rest, self.visits


class Profile:
    """A tree of stages, and what JAX spent on compilation inside them."""

    def __init__(self):
        self.began = time.perf_counter()
        self.root = TimedStage(visits=1)
        self.stack = [self.root]
        self.jax: dict[str, float] = {}

    @contextmanager
    def timed(self, name: str) -> Iterator[None]:
        stage = self.stack[-1].stages.setdefault(name, TimedStage())
        self.stack.append(stage)
        began = time.perf_counter()
        try:
            yield
        finally:
            stage.seconds += time.perf_counter() - began
            stage.visits += 1
            self.stack.pop()

    def listen(self) -> None:
        """Add up the durations that JAX reports of tracing and compilation."""
        import jax.monitoring

        jax.monitoring.register_event_duration_secs_listener(self._heard)

    def _heard(self, event: str, duration_secs: float, **_: str | int) -> None:
        if event in JAX_EVENTS:
            name = JAX_EVENTS[event]
            self.jax[name] = self.jax.get(name, 0.0) + duration_secs

    def text(self) -> str:
        """The tree as lines, with what JAX did at the end."""
        self.root.seconds = time.perf_counter() - self.began
        lines = [f"{'seconds':>9}  part"]
        for depth, name, seconds, visits in self.root.rows():
            times = f" × {visits}" if visits > 1 else ""
            lines.append(f"{seconds:9.2f}  {'  ' * depth}{name}{times}")
        lines.append(f"{self.root.seconds:9.2f}  in all")
        if self.jax:
            lines.append("of which JAX:")
            lines += [f"{seconds:9.2f}  {name}" for name, seconds in self.jax.items()]
        return "\n".join(lines)


profile = Profile()
timed = profile.timed
