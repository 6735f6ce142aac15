"""Memory is predicted before it is asked for; what cannot fit is refused with what would."""

from __future__ import annotations

import re
import resource
import subprocess
import sys

import jax
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from test_cli import GOOD, refused, write

from vi_compare import Settings, Study
from vi_compare.errors import InputError
from vi_compare.run import memory
from vi_compare.run.labels import parse_part
from vi_compare.run.plans import Planner
from vi_compare.target import Target


def normal():
    numpyro.sample("x", dist.Normal(1.0, 2.0))


def wide(d: int):
    return lambda: numpyro.sample("z", dist.Normal(0.0, 1.0).expand([d]).to_event(1))


def said(model, settings=None, **study) -> str:
    with pytest.raises(InputError) as caught:
        Study(model, **study).prepare(settings or Settings(draws=1000))
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("d", [10**8, 10**12, 10**20])
def test_a_model_of_too_many_dimensions_is_refused_before_anything_is_allocated(d):
    words = said(wide(d), fits="diagonal/reverse-kl")
    assert "dimensions for 5 sets need" in words or "cannot be run on its data" in words


@pytest.mark.parametrize("room", [1e8, 3e9])
def test_the_number_of_draws_that_would_fit_is_told(monkeypatch, room):
    """Ten dimensions, their values, log p and log q, in four parts and one fit."""
    monkeypatch.setattr(memory, "available", lambda: room)
    words = said(wide(10), Settings(draws=10**9), fits="diagonal/reverse-kl")
    [most] = re.findall(r"at most ([\d,]+) fit", words)
    a_draw = 5 * sum(np.zeros(n).nbytes for n in (10, 10, 1, 1))
    n = int(most.replace(",", ""))
    assert n * a_draw <= room < (n + 1000) * a_draw
    Study(wide(10), fits="diagonal/reverse-kl").prepare(Settings(draws=1000))


@pytest.mark.parametrize(
    ("fit", "words"),
    [
        ("mixture:1000000000/reverse-kl", "the guide 'mixture:1000000000' needs"),
        ("mixture:100000000,diagonal=true/reverse-kl", "needs"),
        ("mvn/reverse-kl:2000000000", "the fit 'mvn/reverse-kl:particles=2000000000' needs"),
    ],
)
def test_a_fit_that_no_memory_holds_is_refused_by_name(fit, words, monkeypatch):
    monkeypatch.setattr(memory, "available", lambda: 1e10)
    assert words in said(normal, fits=fit)


def test_starts_that_no_memory_holds_are_refused(monkeypatch):
    monkeypatch.setattr(memory, "available", lambda: 1e10)
    settings = Settings(draws=1000, restarts=2 * 10**9)
    assert "needs 16.0 GB of memory" in said(normal, settings, fits="mvn/reverse-kl")


def test_a_dense_covariance_counts_its_square(monkeypatch):
    monkeypatch.setattr(memory, "available", lambda: 3e9)
    planner = Planner(Target(wide(20_000)), 0)
    planner.guide(parse_part("guides", "diagonal"))
    with pytest.raises(InputError, match=r"the guide 'mvn' needs 3\.2 GB of memory"):
        planner.guide(parse_part("guides", "mvn"))


def test_a_limit_on_the_process_counts():
    code = (
        "import resource; resource.setrlimit(resource.RLIMIT_AS, (2**36, -1))\n"
        "from vi_compare.run.memory import available; print(available())"
    )
    if resource.getrlimit(resource.RLIMIT_AS)[1] != resource.RLIM_INFINITY:
        pytest.skip("a limit stands already")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert 0 < float(done.stdout) < 2**36


def test_a_platform_that_is_none_is_one_line(tmp_path, in_process, monkeypatch):
    def devices():
        raise RuntimeError("Unable to initialize backend 'nonsense'\nand a second line")

    write(tmp_path, GOOD)
    monkeypatch.setattr(jax, "devices", devices)
    for command in ("run", "check"):
        refused(*in_process(command, "script.py"), "JAX has no device: Unable to initialize")
