"""The whole command against the bare imports of the libraries it uses."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "models" / "three_peaks.py"
IMPORTS = "import jax, numpyro, arviz, matplotlib.pyplot"


@pytest.mark.parametrize("cache", ["warm", "cold"])
def test_command_against_imports(cache, compare, environment, tmp_path):
    folders = iter(range(100))

    def run():
        name = "cache" if cache == "warm" else f"cache{next(folders)}"
        own = environment | {"XDG_CACHE_HOME": str(tmp_path / name)}
        words = ["-m", "vi_compare", "run", str(SCRIPT), "--out", str(tmp_path / "out")]
        subprocess.run([sys.executable, *words], env=own, check=True, capture_output=True)
        return ()

    def imports():
        subprocess.run([sys.executable, "-c", IMPORTS], env=environment, check=True)
        return ()

    run()
    # What a second run has to trace, lower and read again.
    programs = len(list(tmp_path.glob("cache*/vi_compare/compiled/*-cache")))
    rounds = 7 if cache == "warm" else 2
    compare(
        f"imports against the whole command, {cache} cache", imports, run, rounds, programs=programs
    )
