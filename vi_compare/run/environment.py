"""Where and how a run was made, so that it can be made again."""

from __future__ import annotations

import os
import platform
import shlex
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax


def environment(seed: int, settings: dict[str, Any], command: str) -> dict[str, Any]:
    """Versions, device, precision, threads, seed, settings, command, commit; no time, no host."""
    packages = ("vi-compare", "numpyro", "jax", "jaxlib", "optax", "arviz", "numpy", "xarray")
    return {
        "versions": {"python": platform.python_version()} | {p: version(p) for p in packages},
        "device": jax.devices()[0].device_kind,
        "platform": jax.default_backend(),
        "precision": "float64" if jax.config.jax_enable_x64 else "float32",
        "threads": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None,
        "seed": seed,
        "settings": settings,
        "command": command,
        "commit": commit(Path.cwd()),
    }


def this_command() -> str:
    """The command line as the user would type it again."""
    program = Path(sys.argv[0]).name
    words = ["python", sys.argv[0]] if program.endswith(".py") else [program]
    return shlex.join([*words, *sys.argv[1:]])


def commit(folder: Path) -> str | None:
    """Commit of the checkout in `folder`, "-dirty" behind it if files differ; None outside."""
    git = lambda *words: subprocess.run(
        ["git", *words], cwd=folder, capture_output=True, text=True, timeout=10, check=False
    )
    try:
        head, status = git("rev-parse", "--short=12", "HEAD"), git("status", "--porcelain")
    except (OSError, subprocess.TimeoutExpired):
        return None
    if head.returncode:
        return None
    return head.stdout.strip() + ("-dirty" if status.stdout.strip() else "")
