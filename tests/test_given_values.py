"""What a script gives: models that fail late, values of `Study`, `Given`, `Published`, names.

All of it is refused in one sentence before any fit, so nothing here is fitted."""

from __future__ import annotations

import sys

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
import xarray as xr
from numpyro import handlers

from vi_compare import Given, Published, Settings, Study
from vi_compare.errors import InputError
from vi_compare.evidence import Draws
from vi_compare.run.draws import draws_tree, refuse_what_cannot_be_kept
from vi_compare.target import Target


def normal():
    return numpyro.sample("x", dist.Normal(1.0, 2.0))


def exact(key, n):
    return {"x": 1.0 + 2.0 * jax.random.normal(key, (n,))}


def refused(words: str, **study):
    with pytest.raises(InputError, match=words) as caught:
        Study(**({"model": normal, "exact": exact} | study)).prepare(Settings(draws=1000))
    assert "\n" not in str(caught.value)


# --- models that pass one trace and fail after it -----------------------------------------


def observed(value):
    return lambda: numpyro.sample("y", dist.Normal(normal(), 1.0), obs=value)


def leaving(how):
    def model():
        normal()
        raise how

    return model


class Counting:
    """A model that is another at every call."""

    def __init__(self, then):
        self.calls, self.then = 0, then

    def __call__(self):
        self.calls += 1
        normal()
        self.then(self.calls)


def third(calls: int):
    if calls > 2:
        raise ValueError("the third time")


LATE = {
    "complex factor": (lambda: numpyro.factor("f", 1j * normal()), "of type complex128"),
    "complex mean": (lambda: numpyro.sample("x", dist.Normal(1j, 1.0)), "of type complex128"),
    "text factor": (lambda: numpyro.factor("f", "a" if normal() is None else "b"), "on its data"),
    "huge integer": (observed(2**70), "site 'y' is observed as 1180591620717411303424"),
    "objects": (observed(np.array([1, None])), "site 'y' is observed as .* of type object"),
    "texts": (observed(np.array(["a"])), "site 'y' is observed as .* of type <U1"),
    "dates": (observed(np.array(["2020-01-01"], "M8[D]")), "of type datetime64"),
    "complex data": (observed(1j), "site 'y' is observed as 1j"),
    "a list": (observed([1.0, 2.0]), "cannot be run on its data: (Type|Deprecation)"),
    "no entry": (
        lambda: numpyro.sample("z", dist.Normal(jnp.zeros(0), 1.0)),
        r"site 'z' is of shape \(0,\)",
    ),
    "sys.exit": (lambda: (normal(), sys.exit(0)), "cannot be run on its data: SystemExit: 0"),
    "GeneratorExit": (leaving(GeneratorExit()), "cannot be run on its data: GeneratorExit"),
    "recursion": (leaving(RecursionError("deep")), "RecursionError: deep"),
    "memory": (leaving(MemoryError()), "cannot be run on its data: MemoryError$"),
    "third call": (Counting(third), "cannot be run on its data: ValueError: the third time"),
    "other sites": (
        Counting(lambda n: numpyro.sample(f"z{n}", dist.Normal())),
        "other sites, or sites of other shapes, at every call",
    ),
    "other shapes": (
        Counting(lambda n: numpyro.sample("z", dist.Normal().expand([n]))),
        "other sites, or sites of other shapes, at every call",
    ),
}


@pytest.mark.parametrize("name", LATE)
def test_a_model_that_fails_after_its_first_trace_is_refused_in_one_line(name):
    model, words = LATE[name]
    refused(words, model=model, exact=None)


def test_a_model_that_fails_in_the_middle_of_a_fit_is_told_as_that():
    calls = []

    def model():
        calls.append(normal())
        if len(calls) > 40:
            raise OSError("the disk of the data is gone")

    target = Study(model).target()
    calls += 50 * [None]
    with pytest.raises(InputError, match="cannot be run on its data: OSError: the disk"):
        handlers.seed(target.model, 0)()


def generator():
    yield normal()


async def coroutine():
    normal()


@pytest.mark.parametrize("model", [generator, coroutine, 3])
def test_what_runs_nothing_when_it_is_called_is_no_model(model):
    with pytest.raises(InputError, match=r"^the model is "):
        Study(model)


def test_leaving_from_exact_data_or_guide_does_not_end_the_command():
    leave = lambda *_: sys.exit(0)
    refused("exact.* raises SystemExit: 0", exact=leave)
    refused("data.* raises SystemExit: 0", data=leave)
    refused("guide 'own' cannot be used: SystemExit", guides={"own": leave}, fits="own/reverse-kl")


def test_ctrl_c_in_a_model_is_nobodys_fault():
    with pytest.raises(KeyboardInterrupt):
        Study(leaving(KeyboardInterrupt())).target()


# --- values of Study, Given and Published ---------------------------------------------------

STUDIES = {
    "restarts 0": ({"restarts": 0}, "restarts must be at least 1"),
    "restarts a text": ({"restarts": "3"}, "restarts must be a whole number"),
    "restarts true": ({"restarts": True}, "restarts must be a whole number"),
    "fits a number": ({"fits": 3}, "fits is a int; give labels"),
    "fits a dict": ({"fits": {"mvn/reverse-kl": 1}}, "fits is a dict; give labels"),
    "fits of numbers": ({"fits": [3]}, "fits holds 3; give labels"),
    "fits of bytes": ({"fits": [b"mvn/reverse-kl"]}, "fits holds b'mvn"),
    "exact a number": ({"exact": 3}, "exact is 3"),
    "name nothing": ({"name": " "}, "name must not be empty"),
    "name half a pair": ({"name": "a\udc80"}, "holds characters that no file can keep"),
    "description a number": ({"description": 3}, "description must be a text"),
    "published a number": ({"published": [3]}, "published holds 3"),
    "huge option": ({"fits": "mixture:99999999999999999999/reverse-kl"}, "must be below 2³¹"),
    "option NaN": ({"fits": "mvn/reverse-kl/svi:learning_rate=nan"}, "must be finite"),
}


@pytest.mark.parametrize("name", STUDIES)
def test_a_study_of_values_that_make_no_sense_is_refused(name):
    values, words = STUDIES[name]
    refused(words, **values)


def test_one_fit_may_stand_where_a_list_is_meant():
    one, listed, none = (Study(normal, fits=f).fits for f in ("a/b", ["a/b"], None))
    assert one == listed == ("a/b",)
    assert none == ()


HALVES = {"weights": [0.5, 0.5], "means": [0.0, 1.0], "sds": [1.0, 1.0]}
GIVEN = {
    "weight NaN": ({"weights": [np.nan, 0.5]}, "weights must be finite"),
    "mean infinite": ({"means": [0.0, np.inf]}, "means must be finite"),
    "mean None": ({"means": [0.0, None]}, "means must be finite"),
    "sd NaN": ({"sds": [1.0, np.nan]}, "sds must be finite"),
    "sd too small": ({"sds": [1.0, 1e-300]}, "too large or too small"),
    "sd too large": ({"sds": [1.0, 1e200]}, "too large or too small"),
    "sd zero": ({"sds": [1.0, 0.0]}, "sds must be positive"),
    "weights one number": ({"weights": 1}, r"means must be of shape \(1, 1\)"),
    "weights text": ({"weights": "ab"}, "weights must be real numbers"),
    "weights none": ({"weights": [], "means": [], "sds": []}, "has not 0 components"),
    "weights missing": ({"weights": None}, "give params, or weights, means and sds"),
    "three means": ({"means": [0, 1, 2]}, r"means must be of shape \(2, 1\), not \(3,\)"),
    "ragged means": ({"means": [[1, 2], [1]]}, "means must be real numbers"),
    "complex means": ({"means": [1j, 1]}, "means must be real numbers"),
    "huge means": ({"means": [10**400, 1]}, "means must be real numbers"),
}


@pytest.mark.parametrize("name", GIVEN)
def test_given_components_that_make_no_sense_are_refused(name):
    values, words = GIVEN[name]
    refused(f"the given fit 'g': .*{words}", fits=[Given("g", "mixture:2", **(HALVES | values))])


PARAMS = {
    "NaN": ({"auto_loc": [np.nan], "auto_scale_tril": [[1.0]]}, "auto_loc must be finite"),
    "negative scale": ({"auto_loc": [0.0], "auto_scale_tril": [[-1.0]]}, "cannot have there"),
    "a text": ({"auto_loc": ["a"], "auto_scale_tril": [[1.0]]}, "must be real numbers"),
    "a shape": ({"auto_loc": 0.0, "auto_scale_tril": [[1.0]]}, "has the parameters"),
    "a list": ([1, 2], "params are"),
}


@pytest.mark.parametrize("name", PARAMS)
def test_given_parameters_that_make_no_sense_are_refused(name):
    params, words = PARAMS[name]
    prepare = lambda fit: Study(normal, exact=exact, fits=fit).prepare(Settings(draws=1000))
    with pytest.raises(InputError, match=words):
        prepare(Given("g", "mvn", params=params))


DRAWS = {
    "two": ({"x": [1.0, 2.0]}, "holds 2 draws, which are too few"),
    "one number": ({"x": 3.0}, "too few"),
    "none": ({"x": []}, "too few"),
    "texts": ({"x": ["a"] * 500}, "x must be real numbers"),
    "complex": ({"x": np.full(500, 1j)}, "x must be real numbers"),
    "NaN": ({"x": np.full(500, np.nan)}, "x must be finite"),
    "ragged": ({"x": [[1], [1, 2]]}, "x must be real numbers"),
    "of nobody": ({}, "is empty"),
}


@pytest.mark.parametrize("name", DRAWS)
def test_given_draws_that_make_no_sense_are_refused(name):
    draws, words = DRAWS[name]
    refused(words, fits=Given("g", draws=draws))


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"name": ""}, "must not be empty"),
        ({"name": 3}, "must be a text"),
        ({"name": "a\0b"}, "no file can keep"),
        ({"guide": 3}, "its guide must be a text"),
        ({"draws": 3}, "draws is a int; give files"),
        ({"draws": [1, 2]}, "draws holds 1; give files"),
        ({"guide": "mvn", "draws": {"x": [1.0]}}, "and not both"),
    ],
)
def test_a_given_fit_that_is_none_is_refused_where_it_is_written(values, words):
    with pytest.raises(InputError, match=words):
        Given(**({"name": "g"} | values))


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"means": ["nan"]}, "'nan' is no number as text"),
        ({"means": ["inf"]}, "'inf' is no number as text"),
        ({"means": ["1_0"]}, "'1_0' is no number as text"),
        ({"means": [1.0]}, "means holds 1.0; write them as printed"),
        ({"means": 1}, "means is a int; write them as printed"),
        ({"metrics": ["elbo"]}, "metrics must be"),
        ({"source": 3}, "source must be a text"),
        ({"means": ["1", "2"]}, "2 means are printed and the fit has 1 components"),
        ({"fit": "g", "means": ["1"]}, "Gaussian mixtures on the line only; leave out means"),
    ],
)
def test_figures_that_could_not_be_compared_are_refused_before_the_fits(values, words):
    drawn = jax.random.normal(jax.random.key(0), (500,))
    study = lambda entry: Study(
        normal, exact=exact, fits=["mvn/reverse-kl", Given("g", draws={"x": drawn})],
        published=entry,
    )  # fmt: skip
    with pytest.raises(InputError, match=words):
        study(Published(**({"fit": "mvn/reverse-kl", "source": "s"} | values))).prepare(
            Settings(draws=1000)
        )


@pytest.mark.parametrize("values", [{"draws": 1500.5}, {"draws": "2000"}, {"seed": None}])
def test_settings_are_whole_numbers(values):
    with pytest.raises(InputError, match="must be a whole number"):
        Settings(**values)


# --- names that files cannot keep ------------------------------------------------------------


@pytest.mark.parametrize("name", ["", " ", ".", "..", "/", "a\0b", "a\udc80", "chain", "draw", 3])
def test_a_site_that_no_file_can_keep_is_refused_by_name(name):
    refused(
        "cannot be kept in a file", model=lambda: numpyro.sample(name, dist.Normal()), exact=None
    )


def test_a_plate_that_no_file_can_keep_is_refused_by_name():
    dims = {"x": ("p\0q",)}
    with pytest.raises(InputError, match=r"the site or plate 'p\\x00q'"):
        refuse_what_cannot_be_kept(Draws(jnp.zeros((2, 1)), {"x": jnp.zeros((2, 1))}), dims)


def awkward():
    with numpyro.plate("p/q", 3):
        numpyro.sample("a/b", dist.Normal())
    with numpyro.plate("chain", 2):
        numpyro.sample("a.b", dist.Normal(5.0, 1.0))
    numpyro.sample("v", dist.Normal().expand([2]).to_event(1))
    numpyro.sample("v_dim", dist.Normal())
    numpyro.sample("x" * 300, dist.Normal())


def test_every_site_of_awkward_names_is_in_the_file_by_its_own_values(tmp_path):
    target = Target(awkward)
    draws = target.complete(jax.random.normal(jax.random.key(0), (6, target.dim)))
    dims = {site.name: site.dims for site in target.sites}
    refuse_what_cannot_be_kept(draws, dims)
    reference = type("R", (), {"test": draws, "passage": None})()
    draws_tree("run", reference, [], [], None, dims).to_netcdf(tmp_path / "f.nc", engine="h5netcdf")
    with xr.open_datatree(tmp_path / "f.nc", engine="h5netcdf") as tree:
        held = {v.attrs["site"]: v.values for v in tree["reference/posterior"].data_vars.values()}
    assert held.keys() == draws.values.keys()
    for site, values in draws.values.items():
        np.testing.assert_array_equal(held[site][0], np.asarray(values))
