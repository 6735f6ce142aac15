"""The skeletons of docs/plugins, as another distribution offers them: found by their entry
points, listed, run, and in full on the page."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest

SKELETONS = Path(__file__).parent.parent / "docs" / "plugins"
PROJECT = tomllib.loads((SKELETONS / "pyproject.toml").read_text())["project"]

MODEL = '''"""A correlated Gaussian."""

import jax.numpy as jnp
import numpyro
import numpyro.distributions as dist
from vi_compare import Study

gaussian = dist.MultivariateNormal(jnp.array([1.0, -2.0]), jnp.array([[1.0, 0.6], [0.6, 2.0]]))


def model():
    numpyro.sample("x", gaussian)


study = Study(
    model,
    exact=lambda key, n: {"x": gaussian.sample(key, (n,))},
    fits=["mvn/tempered:0.5", "mvn/reverse-kl/fixed-draws", "logistic/reverse-kl"],
)
'''
COVARIANCE = np.array([[1.0, 0.6], [0.6, 2.0]])
DRAWS = 4000


@pytest.fixture(scope="module")
def environment(tmp_path_factory) -> dict[str, str]:
    """Where the skeletons are installed: their folder, and beside it what pip writes of them."""
    place = tmp_path_factory.mktemp("site")
    info = place / "vi_compare_examples-0.1.dist-info"
    info.mkdir()
    about = f"Metadata-Version: 2.1\nName: {PROJECT['name']}\nVersion: {PROJECT['version']}\n"
    (info / "METADATA").write_text(about)
    groups = PROJECT["entry-points"].items()
    lines = (f"[{group}]\n{name} = {at}\n" for group, g in groups for name, at in g.items())
    (info / "entry_points.txt").write_text("\n".join(lines))
    return os.environ | {"PYTHONPATH": os.pathsep.join([str(place), str(SKELETONS)])}


def command(environment, cwd: Path, *words: str) -> str:
    program = [sys.executable, "-m", "vi_compare", *words]
    done = subprocess.run(
        program, cwd=cwd, env=environment, capture_output=True, text=True, timeout=600, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def run(environment, tmp_path_factory) -> tuple[str, dict, str]:
    """What the run printed, results.json and the page."""
    folder = tmp_path_factory.mktemp("run")
    (folder / "script.py").write_text(MODEL)
    words = ("run", "script.py", "--draws", str(DRAWS), "--restarts", "2", "--out", "out")
    said = command(environment, folder, *words)
    out = folder / "out"
    page = (out / "report.html").read_text(encoding="utf-8")
    return said, json.loads((out / "results.json").read_text(encoding="utf-8")), page


def test_there_is_a_skeleton_of_every_kind_and_each_has_its_entry_point():
    kinds = ("guides", "divergences", "solvers", "metrics", "sections")
    assert set(PROJECT["entry-points"]) == {f"vi_compare.{kind}" for kind in kinds}
    modules = {m for group in PROJECT["entry-points"].values() for m in group.values()}
    assert modules == {path.stem for path in SKELETONS.glob("*.py")}


def test_the_list_shows_them(environment, tmp_path):
    lines = command(environment, tmp_path, "list").splitlines()
    for group in PROJECT["entry-points"].values():
        for name in group:
            assert any(
                line.split()[:1] == [name] and "vi-compare-examples 0.1" in line for line in lines
            ), name


def fit_of(results: dict, name: str) -> dict:
    (found,) = [fit for fit in results["fits"] if fit["name"] == name]
    return found


def test_the_divergence_ends_at_its_closed_form(run):
    """KL(q‖p^β) of a Gaussian N(m, Σ): N(m, Σ/β). By plain SVI or a framed one, whose averaged
    iterates are within a few per cent; an optimum at Σ instead would be off by a half."""
    _, results, _ = run
    mixture = fit_of(results, "mvn/tempered:0.5")["mixture"]
    np.testing.assert_allclose(mixture["covariances"][0], COVARIANCE / 0.5, rtol=0.1)
    np.testing.assert_allclose(mixture["means"][0], [1.0, -2.0], atol=0.1)


def test_the_solver_solves_and_tells_its_cost(run):
    """256 fixed draws: errors of about 1/√256 of an sd; five of them are allowed."""
    _, results, _ = run
    fit = fit_of(results, "mvn/reverse-kl/fixed-draws")
    assert fit["status"] == "converged"
    np.testing.assert_allclose(fit["mixture"]["means"][0], [1.0, -2.0], atol=5 / 16)
    assert fit["cost"]["gradient_evaluations"] > 256
    assert fit["cost"]["compile_seconds"] is None
    assert fit["cost"]["run_seconds"] > 0


def test_the_guide_is_measured_like_any_other(run):
    """The best logistic for N(0, s²): E[log p] − E[log q] is least at a scale near 0.55 s; its
    sds lie within a fifth of those of the coordinates given each other."""
    _, results, _ = run
    fit = fit_of(results, "logistic/reverse-kl")
    assert fit["status"] == "converged"
    assert fit["metrics"]["forward_kl"]["value"] > 0.01
    given = np.sqrt(1 / np.diag(np.linalg.inv(COVARIANCE)))
    sds = np.array(fit["params"]["auto_scale"]) * np.pi / np.sqrt(3)
    np.testing.assert_allclose(sds, given, rtol=0.2)


def test_the_metric_is_on_the_page_with_all_that_it_says_of_itself(run):
    _, results, page = run
    about = results["metrics"]["energy_distance"]
    assert about["meaning"].startswith("√(2E|X − Y|")
    numbers = page[page.index('id="numbers"') :]
    assert "Energy distance" in numbers or "energy distance" in numbers
    for fit in results["fits"]:
        found = fit["metrics"]["energy_distance"]
        assert found["value"] > 0
        assert found["standard_error"] > 0
    # Twice the covariance stands out from the floor; the fit to the target itself does not.
    wide, near = (
        fit_of(results, name)["metrics"]["energy_distance"]
        for name in ("mvn/tempered:0.5", "mvn/reverse-kl/fixed-draws")
    )
    assert wide["value"] - near["value"] > 3 * np.hypot(
        wide["standard_error"], near["standard_error"]
    )


def test_the_section_is_on_the_page(run):
    _, results, page = run
    section = page[page.index('<section id="worst-margins"') :]
    section = section[: section.index("</section>")]
    assert re.search(r"<h2[^>]*>.*Worst margins", section, re.S)
    assert section.count("<tr") == 1 + len(results["fits"])  # the headings, a row a fit
    for fit in results["fits"]:
        by = fit["metrics"]["mean_shift"]["by"]
        worst = max(by, key=lambda label: abs(by[label]["value"]))
        assert f">{worst}<" in section
