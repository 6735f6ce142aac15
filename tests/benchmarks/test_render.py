"""Rendering a saved run against the bare imports of the libraries that draw it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parents[2] / "models" / "three_peaks.py"
IMPORTS = "import jax, numpyro, arviz, matplotlib.pyplot"
RENDER = """
import sys
from vi_compare.comparison import Comparison
from vi_compare.report import render
page = render(Comparison.load(sys.argv[1]))
assert len(page.encode()) < 2_000_000
"""


def test_rendering_against_imports(compare, environment, tmp_path):
    words = ["-m", "vi_compare", "run", str(SCRIPT), "--draws", "5000", "--out", str(tmp_path)]
    subprocess.run([sys.executable, *words], env=environment, check=True, capture_output=True)

    def rendering():
        words = [sys.executable, "-c", RENDER, str(tmp_path)]
        subprocess.run(words, env=environment, check=True)
        return ()

    def imports():
        subprocess.run([sys.executable, "-c", IMPORTS], env=environment, check=True)
        return ()

    size = f"{(tmp_path / 'report.html').stat().st_size / 1000:.0f} kB"
    compare("imports against loading and rendering a run", imports, rendering, 5, page=size)
