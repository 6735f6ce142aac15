"""How many floating-point operations a function takes, and how much memory at a time.

XLA counts the operations of a program before it compiles it, and takes every loop to run once: a
state space model of 500 steps, or an ODE, would seem to cost one step. Here loops are counted as
often as they run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jax.core import ShapedArray
from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn, Literal, jaxpr_as_fun

# What a logarithm, an exponential or the like costs, in operations.
TRANSCENDENTAL = 20.0
# A loop whose end depends on numbers is followed no further: an ODE that does not end at a point
# would else never be counted.
MOST_ROUNDS = 100_000


def operations(function: Callable, points: Array) -> float:
    """Operations of the function at one of the points (n, d), all asked for side by side; 0 where
    XLA does not say. Loops that end by their numbers, as those of an ODE solver, are run there:
    side by side they end when the last of them does."""
    closed = jax.make_jaxpr(function)(points[0])
    once = _once(closed)
    if not once or not _has(closed.jaxpr, ("while", "scan")):
        return once
    if not _has(closed.jaxpr, ("while",)):
        return once + _more(closed)
    every = jax.make_jaxpr(jax.vmap(function))(points)
    try:
        more = float(jax.jit(lambda x: _run(every, [x])[1])(points))
    except (KeyError, TypeError, ValueError):  # another JAX, whose loops are built otherwise
        more = _more(every)
    return (_once(every) + more) / len(points)


def afforded(operations: float, each: float, fewest: int, wanted: int) -> int:
    """How many of those `wanted` can be had for so many operations, of `each` a piece; at least the
    `fewest`, and all where what one takes is not known (0)."""
    return min(wanted, max(fewest, int(operations / each))) if each else wanted


def has_while(jaxpr: Jaxpr) -> bool:
    """Whether a program has a loop that takes longer at some points than at others."""
    return _has(jaxpr, ("while",))


def largest(jaxpr: Jaxpr) -> int:
    """Bytes of the largest array that a program makes."""
    made = [out.aval for eqn in jaxpr.eqns for out in eqn.outvars]
    sizes = [a.size * a.dtype.itemsize for a in made if isinstance(a, ShapedArray)]
    inner = [largest(one.jaxpr) for eqn in jaxpr.eqns for one in _inner(eqn.params)]
    return max((*sizes, *inner), default=0)


def _once(closed: ClosedJaxpr) -> float:
    """As XLA counts, every loop once."""
    found = jax.jit(jaxpr_as_fun(closed)).lower(*closed.in_avals).cost_analysis() or {}
    return found.get("flops", 0.0) + TRANSCENDENTAL * found.get("transcendentals", 0.0)


def _inner(params: dict[str, Any]) -> Iterator[ClosedJaxpr]:
    """The programs that an operation is made of."""
    for value in params.values():
        for one in value if isinstance(value, tuple | list) else (value,):
            if isinstance(one, ClosedJaxpr):
                yield one
            elif isinstance(one, Jaxpr):
                yield ClosedJaxpr(one, ())


def _has(jaxpr: Jaxpr, names: Sequence[str]) -> bool:
    """Whether a program has an operation of one of these names, at any depth."""
    return any(
        eqn.primitive.name in names or any(_has(one.jaxpr, names) for one in _inner(eqn.params))
        for eqn in jaxpr.eqns
    )


def _more(closed: ClosedJaxpr) -> float:
    """What loops of known length add to what is counted once."""
    return sum(map(_more_of, closed.jaxpr.eqns))


def _more_of(eqn: JaxprEqn) -> float:
    """The same of one operation."""
    inner = sum(map(_more, _inner(eqn.params)))
    if eqn.primitive.name != "scan":
        return inner
    length = eqn.params["length"]
    return (length - 1) * _once(eqn.params["jaxpr"]) + length * inner


# --- loops that end by their numbers --------------------------------------------------

_CALLS = frozenset(
    ("jit", "pjit", "closed_call", "core_call", "checkpoint", "remat2", "custom_jvp_call",
     "custom_vjp_call", "custom_vjp_call_jaxpr")
)  # fmt: skip


def _run(closed: ClosedJaxpr, args: Sequence[Any]) -> tuple[list[Any], Any]:
    """What a program makes of `args`, and what its loops add to what is counted once."""
    jaxpr = closed.jaxpr
    known = dict(zip((*jaxpr.constvars, *jaxpr.invars), (*closed.consts, *args), strict=True))
    value = lambda atom: atom.val if isinstance(atom, Literal) else known[atom]
    total: Any = 0.0
    for eqn in jaxpr.eqns:
        out, more = _one(eqn, [value(atom) for atom in eqn.invars])
        known.update(zip(eqn.outvars, out, strict=True))
        total = total + more
    return [value(atom) for atom in jaxpr.outvars], total


def _one(eqn: JaxprEqn, args: list[Any]) -> tuple[list[Any], Any]:
    """One operation, and what its loops add."""
    name, inner = eqn.primitive.name, list(_inner(eqn.params))
    if name == "while":
        return _while(eqn.params, args)
    if name == "scan" and _has(inner[0].jaxpr, ("while",)):
        return _scan(eqn.params, args)
    if name == "cond":
        branches = [lambda *a, one=one: _branch(one, a) for one in inner]
        return jax.lax.switch(args[0], branches, *args[1:])
    if name in _CALLS and len(inner) == 1:
        return _run(inner[0], args)
    out = eqn.primitive.bind(*args, **eqn.params)
    return (list(out) if eqn.primitive.multiple_results else [out]), _more_of(eqn)


def _branch(one: ClosedJaxpr, args: Sequence[Any]) -> tuple[list[Any], Array]:
    out, more = _run(one, args)
    return out, jnp.asarray(more, float)


def _while(params: dict[str, Any], args: list[Any]) -> tuple[list[Any], Any]:
    goes_on, body = params["cond_jaxpr"], params["body_jaxpr"]
    first = params["cond_nconsts"]
    second = first + params["body_nconsts"]
    for_test, for_body, start = args[:first], args[first:second], args[second:]
    each = _once(body)
    test = lambda state: _run(goes_on, [*for_test, *state])[0][0]

    def more(carry):
        rounds, _, state = carry
        return test(state).any() & (rounds < MOST_ROUNDS)

    def step(carry):
        rounds, total, state = carry
        out, inside = _run(body, [*for_body, *state])
        # Of loops side by side, those that have ended stay as they are.
        going = test(state)
        held = lambda new, old: jnp.where(
            going.reshape(going.shape + (1,) * (new.ndim - going.ndim)), new, old
        )
        return rounds + 1, total + each + inside, list(map(held, out, state))

    begin = (0, jnp.asarray(-each, float), start)  # one round has been counted
    _, total, state = jax.lax.while_loop(more, step, begin)
    return state, total


def _scan(params: dict[str, Any], args: list[Any]) -> tuple[list[Any], Any]:
    body = params["jaxpr"]
    constants, start, along = _parted(params, "ft_in", args, ("num_consts", "num_carry"))
    each = _once(body)

    def step(carry, x):
        total, state = carry
        out, inside = _run(body, [*constants, *state, *x])
        state, kept = _parted(params, "ft_out", out, ("num_carry",))
        return (total + each + inside, state), kept

    begin = (jnp.asarray(-each, float), start)
    length, back = params["length"], params["reverse"]
    (total, state), kept = jax.lax.scan(step, begin, along, length=length, reverse=back)
    return [*state, *kept], total


def _parted(
    params: dict[str, Any], tree: str, values: list[Any], numbers: tuple[str, ...]
) -> list[list[Any]]:
    """What a scan takes, or gives, in its parts: JAX had their numbers, and has a tree of them."""
    if tree in params:
        return [list(part) for part in params[tree].update(values).unpack()]
    parts = []
    for number in (params[name] for name in numbers):
        parts.append(values[:number])
        values = values[number:]
    return [*parts, values]
