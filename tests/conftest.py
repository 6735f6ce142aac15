"""Shared by all tests: float64, a compilation cache that outlives the run, the command."""

from __future__ import annotations

import gc
import os
from pathlib import Path


def one_core_each() -> None:
    """A worker of pytest-xdist keeps to one core. XLA starts a thread for every core that it
    sees; two workers that do so wait for one another, and small matrices take ten times as long.
    """
    worker = os.environ.get("PYTEST_XDIST_WORKER", "")
    if worker and hasattr(os, "sched_setaffinity"):
        cores = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, {cores[int(worker.removeprefix("gw")) % len(cores)]})


one_core_each()  # XLA and BLAS count their cores when they are imported

import jax  # noqa: E402
import pytest  # noqa: E402

CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "vi-compare-tests"

# Thousands of traces leave a heap of millions of objects that stay, and Python would walk it again
# and again for the garbage of the next.
gc.set_threshold(1_000_000, 50, 50)

jax.config.update("jax_enable_x64", True)
jax.config.update("jax_compilation_cache_dir", str(CACHE))
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
jax.config.update("jax_persistent_cache_min_entry_size_bytes", 0)


@pytest.fixture
def in_process(tmp_path, monkeypatch, capsys):
    """Run the command in this process, in an empty folder -> (status, stdout, stderr).

    Only for what ends before a fit: a process of its own would wait for JAX each time.
    """
    from vi_compare.cli import main

    monkeypatch.chdir(tmp_path)

    def run(*words):
        capsys.readouterr()
        status = main(list(words))
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return run
