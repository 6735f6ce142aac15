"""What is kept between runs: a cache that is damaged, foreign, full or gone is done without."""

from __future__ import annotations

import errno
import os
import warnings
from types import SimpleNamespace

import numpy as np
import pytest
from jinja2 import FileSystemBytecodeCache
from targets import plane

from vi_compare.reference import nuts, nuts_chains
from vi_compare.report import page
from vi_compare.target import Target

FEW = nuts_chains.Sampling(warmup=20, block=50, enough=1, most=1)


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """The folder of kept draws; NUTS itself would take seconds, and every call is counted."""
    monkeypatch.setattr(nuts, "cache_folder", lambda: tmp_path)
    monkeypatch.setattr(nuts, "from_chains", lambda source, target, chains, *_: chains)
    sampled = []

    def sample(*_):
        sampled.append(np.random.default_rng(0).normal(size=(8, 50, 2)))
        return {"u": sampled[-1], "diverged": 0.0, "gradients": 1}

    monkeypatch.setattr(nuts, "sample", sample)
    return SimpleNamespace(folder=tmp_path / "nuts", sampled=sampled)


@pytest.fixture(scope="module")
def target():
    return Target(plane)


def drawn(target) -> np.ndarray:
    found = nuts.nuts_reference(target, 0, 100, lambda *_: None, FEW)
    return np.asarray(found.u)


def cut(path):
    os.truncate(path, path.stat().st_size // 2)


def flip(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def changed(**changes):
    def write(path):
        with np.load(path) as held:
            np.savez(path, **({name: held[name] for name in held.files} | changes))

    return write


def no_numbers(path):
    with np.load(path) as held:
        changed(u=np.full_like(held["u"], np.nan))(path)


def of_another_target(path):
    """Whole, with a checksum that is right for another file, of three dimensions."""
    found = {"u": np.zeros((8, 50, 3)), "diverged": 0.0, "gradients": 1}
    np.savez(path, checksum=nuts._checksum("another", found), **found)


DAMAGE = {
    "cut": cut,
    "flipped": flip,
    "empty": lambda path: path.write_bytes(b""),
    "no zip": lambda path: path.write_bytes(b"no zip at all" * 100),
    "NaN": no_numbers,
    "another dimension": changed(u=np.zeros((8, 50, 3))),
    "of another target": of_another_target,
    "a pickle": changed(u=np.array([{"a": 1}], dtype=object)),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_damaged_draws_are_drawn_again_and_it_is_said(name, cache, target):
    first = drawn(target)
    [kept] = cache.folder.iterdir()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        np.testing.assert_array_equal(drawn(target), first)
    DAMAGE[name](kept)
    with pytest.warns(UserWarning, match="are damaged; NUTS draws them again"):
        np.testing.assert_array_equal(drawn(target), first)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # the damaged ones have been replaced
        np.testing.assert_array_equal(drawn(target), first)
    assert len(cache.sampled) == 2


def test_a_cache_that_is_full_keeps_nothing_and_costs_nothing(cache, target, monkeypatch):
    def full(path, **_):
        path.write_bytes(b"half")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(np, "savez", full)
    assert len(drawn(target)) > 0
    assert list(cache.folder.iterdir()) == []


def test_templates_that_cannot_be_kept_are_compiled_anew(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(page, "writable", lambda name: tmp_path)
    for what in ("load_bytecode", "dump_bytecode"):
        monkeypatch.setattr(FileSystemBytecodeCache, what, full)
    made = page.environment.__wrapped__()
    assert made.get_template("gallery.html.jinja").render(entries=[], style="", title="None")
