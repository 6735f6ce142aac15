"""A plain Python session, as a user's is: no conftest has set JAX up, nothing has a script."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

SESSION = """
import json
{first}
import jax
import numpyro
import numpyro.distributions as dist

from vi_compare import Settings, Study


def model():
    numpyro.sample("x", dist.Normal(1.0, 2.0).expand([2]).to_event(1))


def exact(key, n):
    return {{"x": dist.Normal(1.0, 2.0).expand([2]).to_event(1).sample(key, (n,))}}


study = Study(model, exact=exact, fits=["mvn/reverse-kl", "mvn/forward-kl"])
"""

RUNS = """
try:
    study.main()
except Exception as error:
    said = str(error)


def told(**settings):
    comparison = study.run(Settings(draws=2000, restarts=1, **settings))
    return {
        "x64": jax.config.jax_enable_x64,
        "precision": comparison.results["environment"]["precision"],
        "dtype": str(comparison.draws["reference/posterior"]["x"].dtype),
        "verdicts": comparison.verdicts,
        "forward": [f["metrics"]["forward_kl"]["value"] for f in comparison.fits],
        "repr": repr(comparison),
        "html": comparison._repr_html_(),
        "main": said,
    }


double = told()
single = [told(float32=True, seed=seed) for seed in (2**63 + 5, 7)]
print(json.dumps({"double": double, "single": single}))
"""

PREPARED = """
def scored():
    model()
    numpyro.factor("nothing", 0.0)


prepared = Study(scored, exact=exact).prepare(Settings(draws=1000))
print(json.dumps({"dim": prepared.target.dim, "z": prepared.reference.check.passed}))
"""


def session(folder, then: str, first: str = "") -> dict:
    done = subprocess.run(
        [sys.executable, "-"],  # from stdin: there is no script, as in a notebook
        input=SESSION.format(first=first) + then,
        cwd=folder, capture_output=True, text=True, timeout=600, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Three runs of one session: it may ask for one precision after the other."""
    return session(tmp_path_factory.mktemp("session"), RUNS)


def test_a_study_computes_in_double_precision_whatever_jax_is_set_to(runs):
    found = runs["double"]
    assert found["x64"] is False  # left as it was found
    assert found["precision"] == "float64"
    assert found["dtype"] == "float64"
    assert set(found["verdicts"].values()) == {"Faithful"}
    # The guide holds the target: reverse KL ends at it to rounding of float64.
    assert abs(found["forward"][0]) < 1e-9
    assert found["repr"].startswith("<Comparison of model: mvn/reverse-kl: Faithful")
    assert len(found["repr"]) < 200
    assert "<td>mvn/forward-kl</td><td><b>Faithful</b></td>" in found["html"]
    assert "in a notebook call study.run()" in found["main"]


@pytest.mark.parametrize("which", [0, 1], ids=["a seed of 64 bits", "a small seed"])
def test_single_precision_is_there_on_request(runs, which):
    found = runs["single"][which]
    assert found["precision"] == "float32"
    assert found["dtype"] == "float32"
    # float32 has 7 digits and log p of some ten nats: errors of 1e-5 nats are rounding.
    assert abs(found["forward"][0]) < 1e-4


def test_arviz_may_be_imported_first(tmp_path):
    """It leaves NumPyro a lazy module, in which distributions and factors are not to be found
    before something has asked for them."""
    assert session(tmp_path, PREPARED, "import arviz") == {"dim": 2, "z": True}
