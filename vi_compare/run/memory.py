"""What a study must hold in memory, predicted before any of it is allocated.

Each prediction is a lower bound, of arrays that are there together for certain: what is refused
could never have run. JAX ends the whole process where memory is short in its own threads.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator
from pathlib import Path

import jax

from vi_compare import families
from vi_compare.batches import BATCH
from vi_compare.errors import InputError, first_line
from vi_compare.families import Covariances
from vi_compare.target import Target


def require_device() -> None:
    """Let JAX find its device.

    Raises:
        InputError: when it finds none, for example of the name in ``JAX_PLATFORMS``.
    """
    try:
        jax.devices()
    except RuntimeError as error:
        raise InputError(f"JAX has no device: {first_line(error)}") from error


def require_for_draws(target: Target, draws: int, sets: int) -> None:
    """Refuse more draws than memory holds.

    Args:
        sets: how many sets of `draws` draws there are at once: the parts of an exact reference,
            and one of every fit.

    Raises:
        InputError: with the number that would fit.
    """
    a_draw = _number() * target.numbers_of_a_draw * sets
    room = available()
    if a_draw * max(draws, BATCH) <= room:
        return
    most = int(room / a_draw) // 1000 * 1000
    remedy = f"at most {most:,} fit" if most >= BATCH else "no useful number of them fits"
    raise InputError(
        f"{draws:,} draws of {target.dim:,} dimensions for {sets} sets need "
        f"{_gigabytes(a_draw * max(draws, BATCH))} of memory, of which {_gigabytes(room)} are "
        f"left; {remedy}: lower draws, compare fewer fits, or make the model smaller"
    )


def require_for_guide(name: str, guide: Callable, target: Target) -> None:
    """Refuse a guide whose parameters, or whose components at a batch of draws, do not fit."""
    family = families.family(guide)
    k, d = family.num_components, target.dim
    each = d * d if family.holds is Covariances.FULL else d
    _require(f"the guide {name!r}", k * each + k * BATCH)


def require_for_search(name: str, points: int, restarts: int, target: Target) -> None:
    """Refuse a search whose draws of one step, or whose starts, do not fit."""
    _require(f"the fit {name!r}", target.dim * (points + restarts))


def available() -> float:
    """Bytes that this process may still allocate; infinity where nobody can tell."""
    return min(_limits(), default=math.inf)


def _require(what: str, numbers: float) -> None:
    needed, room = _number() * numbers, available()
    if needed > room:
        raise InputError(
            f"{what} needs {_gigabytes(needed)} of memory, of which {_gigabytes(room)} are left; "
            f"make it smaller"
        )


def _number() -> int:
    """Bytes of one number."""
    return 8 if jax.config.jax_enable_x64 else 4


def _gigabytes(n: float) -> str:
    return f"{n / 1e9:,.1f} GB"


def _limits() -> Iterator[float]:
    """What the machine, its container and the limits of the process leave."""
    with contextlib.suppress(OSError, ValueError, StopIteration):
        lines = Path("/proc/meminfo").read_text().splitlines()
        yield 1024 * int(next(x for x in lines if x.startswith("MemAvailable")).split()[1])
    group = Path("/sys/fs/cgroup")
    with contextlib.suppress(OSError, ValueError):  # "max" is no number, and no limit
        most, used = (int((group / f"memory.{x}").read_text()) for x in ("max", "current"))
        yield most - used
    with contextlib.suppress(ImportError, OSError, ValueError):
        import resource

        soft, _ = resource.getrlimit(resource.RLIMIT_AS)
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        if soft != resource.RLIM_INFINITY:
            yield soft - pages * resource.getpagesize()
