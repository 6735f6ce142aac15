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
comparison = study.run(Settings(draws=2000, restarts=1, {settings}))
try:
    study.main()
except Exception as error:
    said = str(error)
print(json.dumps({{
    "x64": jax.config.jax_enable_x64,
    "precision": comparison.results["environment"]["precision"],
    "dtype": str(comparison.draws["reference/posterior"]["x"].dtype),
    "verdicts": comparison.verdicts,
    "forward": [f["metrics"]["forward_kl"]["value"] for f in comparison.fits],
    "repr": repr(comparison),
    "html": comparison._repr_html_(),
    "main": said,
}}))
"""


def session(tmp_path, settings="", first="") -> dict:
    text = SESSION.format(settings=settings, first=first)
    # from stdin: there is no script, as in a notebook
    done = subprocess.run(
        [sys.executable, "-"],
        input=text, cwd=tmp_path, capture_output=True, text=True, timeout=600, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_a_study_computes_in_double_precision_whatever_jax_is_set_to(tmp_path):
    found = session(tmp_path)
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


@pytest.mark.parametrize("seed", ["seed=2**63 + 5", "seed=7"])
def test_single_precision_is_there_on_request(tmp_path, seed):
    found = session(tmp_path, f"float32=True, {seed}")
    assert found["precision"] == "float32"
    assert found["dtype"] == "float32"
    # float32 has 7 digits and log p of some ten nats: errors of 1e-5 nats are rounding.
    assert abs(found["forward"][0]) < 1e-4


def test_arviz_may_be_imported_first(tmp_path):
    found = session(tmp_path, first="import arviz")
    assert found["precision"] == "float64"
