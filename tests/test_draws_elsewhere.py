"""Files of draws as other programs write them: read as they were meant, or refused in a line.

The right answer is known by construction: a writer is handed values, and the values must come
back. Nothing here is fitted; one model serves all, so that it is compiled once.
"""

from __future__ import annotations

import json
import zipfile
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
import xarray as xr
from arviz_base import from_dict
from test_cli import write

from vi_compare import Given, Settings, Study, script
from vi_compare.errors import InputError
from vi_compare.evidence import Draws
from vi_compare.files.draws import holds_draws, read_draws
from vi_compare.reference import check_draws, from_given
from vi_compare.target import Target
from vi_compare.verdict import Concern

CHAINS, N = 4, 120


def model():
    """A number, a vector, a matrix, two names that differ by their case, and PyMC's spaces."""
    numpyro.sample("mu", dist.Normal(0.0, 1.0))
    numpyro.sample("beta", dist.Normal(jnp.zeros(3), 1.0).to_event(1))
    numpyro.sample("w", dist.Normal(jnp.zeros((2, 2)), 1.0).to_event(2))
    numpyro.sample("K", dist.Normal(0.0, 1.0))
    numpyro.sample("k", dist.Normal(5.0, 1.0))
    numpyro.sample("noise level", dist.LogNormal(0.0, 0.1))


TARGET = Target(model)
SHAPES = {"mu": (), "beta": (3,), "w": (2, 2), "K": (), "k": (), "noise level": ()}


def drawn(seed: int = 0, chains: int = CHAINS, n: int = N) -> dict[str, np.ndarray]:
    """{site: (chains, n, ...)}, with four decimals, as files have few."""
    rng = np.random.default_rng(seed)
    values = {s: rng.normal(size=(chains, n, *shape)).round(4) for s, shape in SHAPES.items()}
    return values | {"k": values["k"] + 5, "noise level": np.exp(values["noise level"]).round(4)}


@dataclass
class Written:
    """What a writer left, and what is to be read of it.

    Attributes:
        given: what a user would name.
        values: {site: (chains, draws, ...)} that must come back.
        divergences: share of transitions; None where nothing is said.
        left_out: {what: rows}.
        approximate: whether the draws are an approximation's.
    """

    given: Any
    values: dict[str, np.ndarray]
    divergences: float | None = None
    left_out: dict[str, int] = field(default_factory=dict)
    approximate: bool = False


# --- ArviZ and PyMC -------------------------------------------------------------------------


def flags(share: float = 0.4) -> np.ndarray:
    return np.random.default_rng(1).random((CHAINS, N)) < share


def dataset(values, order=("chain", "draw"), **more) -> xr.Dataset:
    own = {
        name: ((*order, *(f"{name.replace(' ', '_')}_{i}" for i in range(v.ndim - 2))), v)
        for name, v in values.items()
    }
    return xr.Dataset(own | more)


def inference_data(path, **groups) -> Path:
    """The layout of ArviZ 0.x: one group after another into the same file."""
    for name, data in groups.items():
        data.to_netcdf(path, group=name, mode="a" if path.exists() else "w", engine="h5netcdf")
    return path


def old_stats(diverging) -> xr.Dataset:
    stats = dataset({"diverging": diverging.astype("int8"), "lp": np.zeros(diverging.shape)})
    stats["diverging"].attrs["dtype"] = "bool"
    return stats


def old(folder, **groups) -> Written:
    values = drawn()
    posterior = dataset(values).assign_coords(chain=np.arange(CHAINS), draw=np.arange(N))
    observed = xr.Dataset({"y": ("y_dim_0", np.zeros(5))})
    return Written(
        inference_data(folder / "old.nc", posterior=posterior, observed_data=observed, **groups),
        values,
    )


def old_divergent(folder) -> Written:
    found = flags()
    return replace(old(folder, sample_stats=old_stats(found)), divergences=found.mean())


def old_warm_up(folder) -> Written:
    return old(
        folder,
        warmup_posterior=dataset(drawn(7, n=50)),
        warmup_sample_stats=old_stats(np.ones((CHAINS, 50), bool)),
    )


def old_draws_first(folder) -> Written:
    values = drawn()
    turned = {name: v.swapaxes(0, 1) for name, v in values.items()}
    posterior = dataset(turned, ("draw", "chain"))
    return Written(inference_data(folder / "a.nc", posterior=posterior), values)


def pymc(folder) -> Written:
    values = drawn()
    twin = {"noise level_log__": np.log(values["noise level"]), "sub::a": values["mu"]}
    posterior = dataset(values | twin).assign_coords(beta_0=["(Intercept)", "x1", "x2"])
    stats = dataset({"diverging": flags(0.01), "tree_depth": np.ones((CHAINS, N), int)})
    path = inference_data(folder / "pymc.nc", posterior=posterior, sample_stats=stats)
    return Written(path, values, flags(0.01).mean())


def new(folder, **groups) -> Written:
    values = drawn()
    tree = from_dict({"posterior": values, **groups}, check_conventions=False)
    tree.to_netcdf(folder / "new.nc", engine="h5netcdf")
    return Written(folder / "new.nc", values)


def new_divergent(folder) -> Written:
    found = flags(0.1)
    stats = {"diverging": found, "energy": np.zeros((CHAINS, N))}
    return replace(new(folder, sample_stats=stats), divergences=found.mean())


def new_warm_up(folder) -> Written:
    late = {name: v + 50 for name, v in drawn(8).items()}
    return new(folder, warmup_posterior=late, prior=drawn(9), log_likelihood={"y": late["mu"]})


def stacked(folder) -> Written:
    """az.extract, its index reset so that it can be written."""
    values = drawn()
    flat = dataset(values).assign_coords(chain=range(CHAINS), draw=range(N))
    flat = flat.stack(sample=("chain", "draw")).reset_index("sample")
    return Written(inference_data(folder / "s.nc", posterior=flat), values)


def stacked_bare(folder) -> Written:
    values = drawn()
    one = {name: v.reshape(1, -1, *v.shape[2:]) for name, v in values.items()}
    flat = dataset(one).isel(chain=0).rename(draw="sample")
    return Written(inference_data(folder / "s.nc", posterior=flat), one)


def by_itself(folder) -> Written:
    values = drawn()
    dataset(values).to_netcdf(folder / "posterior.nc", engine="h5netcdf")
    return Written(folder / "posterior.nc", values)


def no_chain(folder) -> Written:
    one = drawn(chains=1, n=500)
    path = inference_data(folder / "a.nc", posterior=dataset(one).isel(chain=0))
    return Written(path, one)


def netcdf_a_chain(folder) -> Written:
    values = drawn()
    paths = [
        inference_data(
            folder / f"{c}.nc", posterior=dataset({n: v[c : c + 1] for n, v in values.items()})
        )
        for c in range(CHAINS)
    ]
    return Written(paths, values)


# --- CmdStan --------------------------------------------------------------------------------

HEAD = """# stan_version_major = 2
# method = {method}
#   {method}
#     num_samples = 120
#     num_warmup = {warmup}
#     save_warmup = {saved}
#     thin = {thin}
# id = {chain}
"""
ADAPTED = "# Adaptation terminated\n# Step size = 0.8\n# Diagonal elements:\n# 0.96, 1.02\n"
TAIL = "# \n#  Elapsed Time: 0.017 seconds (Warm-up)\n# \n"
SAMPLER = {"lp__": -3.5, "accept_stat__": 0.93, "stepsize__": 0.8, "divergent__": 0.0}


def columns(values, pattern="{}.{}", join=".", first=1) -> dict[str, np.ndarray]:
    """{column: (draws,)} of one chain's {site: (draws, ...)}."""
    out = {}
    for name, v in values.items():
        for index in np.ndindex(v.shape[1:]):
            label = pattern.format(name, join.join(str(i + first) for i in index))
            out[label if index else name] = v[(slice(None), *index)]
    return out


def rows(held: dict[str, np.ndarray]) -> str:
    table = np.column_stack(list(held.values()))
    return "".join(",".join(f"{x:.10g}" for x in row) + "\n" for row in table)


def sampler(n: int, divergent=None) -> dict[str, np.ndarray]:
    own = {name: np.full(n, x) for name, x in SAMPLER.items()}
    return own if divergent is None else own | {"divergent__": divergent.astype(float)}


def stan_file(path, values, *, warm=None, adapted=True, divergent=None, style=None, **head) -> Path:
    """One chain, {site: (draws, ...)}, behind the rows of its warm-up if there are any."""
    style, said = style or {}, {"method": "sample", "warmup": 1000, "saved": "false", "thin": 1}
    text = HEAD.format(**said | {"chain": 1} | head)
    n = len(values["mu"])
    held = sampler(n, divergent) | columns(values, **style) | {"generated.1": np.ones(n)}
    text += ",".join(f'"{c}"' if style else c for c in held) + "\n"
    if warm is not None:
        early = sampler(len(warm["mu"])) | columns(warm) | {"generated.1": warm["mu"]}
        text += rows(early)
    path.write_text(text + (ADAPTED if adapted else "") + rows(held) + TAIL)
    return path


def chain(values, c: int) -> dict[str, np.ndarray]:
    return {name: v[c] for name, v in values.items()}


def stan(folder, given=None, name="linear-{}.csv", chains=CHAINS, **how) -> Written:
    values = drawn(chains=chains)
    for c in range(chains):
        stan_file(folder / name.format(c + 1), chain(values, c), **how)
    return Written(folder if given is None else str(folder / given), values, 0.0)


def stan_list(folder) -> Written:
    return replace(stan(folder), given=[folder / f"linear-{c}.csv" for c in range(1, CHAINS + 1)])


def stan_with_data_beside(folder) -> Written:
    (folder / "linear.data.json").write_text('{"N": 3}')
    (folder / "console.txt").write_text("done")
    return stan(folder)


def stan_one(folder) -> Written:
    values = drawn(chains=1, n=450)
    return Written(stan_file(folder / "one.csv", chain(values, 0)), values, 0.0)


def stan_warm(folder, *, thin=1, rows=300, left=None, **how) -> Written:
    early = {name: v[0] + 60 for name, v in drawn(5, n=rows).items()}
    said = {"saved": "true", "thin": thin, "warm": early} | how
    return replace(stan(folder, **said), left_out={"draws of the warm-up": CHAINS * rows})


def stan_divergent(folder) -> Written:
    values, found = drawn(), flags(0.25)
    for c in range(CHAINS):
        stan_file(folder / f"{c}.csv", chain(values, c), divergent=found[c])
    return Written(folder, values, found.mean())


def stan_together(folder, share=0.0) -> Written:
    """All chains in one table without comments, the chain in a column."""
    values, found = drawn(), flags(share)
    held = [
        sampler(N, found[c]) | columns(chain(values, c)) | {"chain": np.full(N, c + 1.0)}
        for c in range(CHAINS)
    ]
    text = ",".join(held[0]) + "\n" + "".join(map(rows, held))
    (folder / "all.csv").write_text(text)
    return Written(folder / "all.csv", values, found.mean())


def stan_approximate(folder, own, method="variational", comments=True, means=1) -> Written:
    values = drawn(chains=1, n=500)
    held = {name: np.zeros(500) for name in own} | columns(chain(values, 0))
    log_p, log_q = list(own)[-2:]
    held[log_p], held[log_q] = np.linspace(-30, -28, 500), np.full(500, -3.0)
    mean = {name: np.zeros(means) for name in own} | {
        name: np.full(means, x.mean()) for name, x in columns(chain(values, 0)).items()
    }
    head = HEAD.format(method=method, warmup=0, saved="false", thin=1, chain=0) if comments else ""
    text = head + ",".join(held) + "\n# Stepsize adaptation complete.\n# eta = 1\n"
    (folder / "vi.csv").write_text(text + rows(mean) + rows(held))
    left_out = {"rows of the approximation's mean": means} if means else {}
    return Written(folder / "vi.csv", values, None, left_out, approximate=True)


# --- R, pandas, NumPyro, JSON ---------------------------------------------------------------


def table(folder, chain_column, *, row_names="", bom=b"", pattern="{}[{}]", join=",", first=1):
    values = drawn()
    head, lines, number = None, [], 0
    for c in range(CHAINS):
        held = columns(chain(values, c), pattern, join, first) | {chain_column: np.full(N, c + 1.0)}
        head = head or [*([row_names] if row_names else []), *(f'"{name}"' for name in held)]
        for line in rows(held).splitlines():
            number += 1
            lines.append(f'"{number}",{line}' if row_names else line)
    text = "\n".join([",".join(head), *lines]) + "\n"
    (folder / "draws.csv").write_bytes(bom + text.encode())
    return Written(folder / "draws.csv", values)


def npz(folder, *, by_chain, **extra) -> Written:
    values = drawn()
    flat = {n: v if by_chain else v.reshape(-1, *v.shape[2:]) for n, v in values.items()}
    more = {n: v if by_chain else v.reshape(-1) for n, v in extra.items()}
    np.savez(folder / "samples.npz", **flat, **more)
    one = {n: v.reshape(1, -1, *v.shape[2:]) for n, v in values.items()}
    share = extra["diverging"].mean() if "diverging" in extra else None
    return Written(folder / "samples.npz", values if by_chain else one, share)


def npz_a_chain(folder) -> Written:
    values = drawn()
    for c in range(CHAINS):
        np.savez(folder / f"chain{c}.npz", **chain(values, c))
    return Written(folder / "chain*.npz", values)


def as_json(folder, made, *, bom=b"", share=None) -> Written:
    (folder / "draws.json").write_bytes(bom + json.dumps(made(drawn())).encode())
    return Written(folder / "draws.json", drawn(), share)


def lists(values) -> dict[str, Any]:
    return {name: v.tolist() for name, v in values.items()}


def posteriordb(values) -> list[dict[str, Any]]:
    return [lists(columns(chain(values, c), "{}[{}]", ",")) for c in range(CHAINS)]


def zipped(folder) -> Written:
    with zipfile.ZipFile(folder / "p.json.zip", "w") as archive:
        archive.writestr("p.json", json.dumps(posteriordb(drawn())))
    return Written(folder / "p.json.zip", drawn())


def json_arviz(values) -> dict[str, Any]:
    stats = {"diverging": flags(0.3).tolist(), "lp": values["mu"].tolist()}
    return {"posterior": lists(values), "posterior_attrs": {"a": 1}, "sample_stats": stats}


BRACKETS = {"pattern": "{}[{}]", "join": ","}
ADVI, LAPLACE = ("lp__", "log_p__", "log_g__"), ("log_p__", "log_q__")
PATHFINDER = ("lp_approx__", "lp__")

FILES = {
    "ArviZ 0.x": old,
    "ArviZ 0.x, divergences": old_divergent,
    "ArviZ 0.x, warm-up groups": old_warm_up,
    "ArviZ 0.x, draws before chains": old_draws_first,
    "PyMC": pymc,
    "ArviZ 1.x": new,
    "ArviZ 1.x, divergences": new_divergent,
    "ArviZ 1.x, warm-up, prior and likelihood": new_warm_up,
    "az.extract": stacked,
    "az.extract, without its index": stacked_bare,
    "a posterior by itself": by_itself,
    "a posterior without chains": no_chain,
    "a netCDF file a chain": netcdf_a_chain,
    "CmdStan, a folder": stan,
    "CmdStan, a folder with brackets": lambda f: stan(f, style=BRACKETS),
    "CmdStan, a pattern": lambda f: stan(f, "linear-*.csv"),
    "CmdStan, a list": stan_list,
    "CmdStan, ten chains in their order": lambda f: stan(f, chains=11),
    "CmdStan, data beside": stan_with_data_beside,
    "CmdStan, one chain": stan_one,
    "CmdStan, warm-up": stan_warm,
    "CmdStan, warm-up by number": lambda f: stan_warm(f, warmup=300, adapted=False),
    "CmdStan, warm-up thinned": lambda f: stan_warm(f, warmup=899, thin=3, adapted=False),
    "CmdStan, warm-up as older ones say": lambda f: stan_warm(
        f, warmup=40, rows=40, adapted=False, saved="1"
    ),
    "CmdStan, divergences": stan_divergent,
    "CmdStan, together": stan_together,
    "CmdStan, together, divergences": lambda f: stan_together(f, 0.4),
    "CmdStan, variational": lambda f: stan_approximate(f, ADVI),
    "CmdStan, variational without comments": lambda f: stan_approximate(f, ADVI, comments=False),
    "CmdStan, laplace": lambda f: stan_approximate(f, LAPLACE, "laplace", means=0),
    "CmdStan, pathfinder": lambda f: stan_approximate(f, PATHFINDER, "pathfinder", means=0),
    "R's draws_df": lambda f: table(f, ".chain", row_names='""'),
    "pandas, with its index": lambda f: table(f, "chain__", row_names="Unnamed: 0", first=0),
    "Excel": lambda f: table(f, "Chain", bom=b"\xef\xbb\xbf"),
    "NumPyro": lambda f: npz(f, by_chain=False),
    "NumPyro, by chain": lambda f: npz(f, by_chain=True),
    "NumPyro, divergences": lambda f: npz(f, by_chain=True, diverging=flags()),
    "NumPyro, divergences, flat": lambda f: npz(f, by_chain=False, diverging=flags()),
    "NumPyro, a file a chain": npz_a_chain,
    "posteriordb": lambda f: as_json(f, posteriordb),
    "posteriordb, zipped": zipped,
    "posteriordb, byte order mark": lambda f: as_json(f, posteriordb, bom=b"\xef\xbb\xbf"),
    "ArviZ's JSON": lambda f: as_json(f, json_arviz, share=flags(0.3).mean()),
    "JSON, site by site": lambda f: as_json(f, lists),
}


@pytest.mark.parametrize("name", FILES)
def test_draws_come_back_as_they_were_written(name, tmp_path):
    written = FILES[name](tmp_path)
    found = read_draws(written.given, TARGET)
    chains, n = written.values["mu"].shape
    assert (found.draws.chains, len(found.draws)) == (chains, chains * n)
    for site, v in written.values.items():
        got = np.asarray(found.draws.values[site])
        np.testing.assert_allclose(got, v.reshape(-1, *v.shape[2:]), rtol=1e-9, err_msg=site)
    assert found.divergences == (
        None if written.divergences is None else pytest.approx(written.divergences)
    )
    assert dict(found.left_out) == written.left_out
    kinds = [doubt.kind for doubt in found.doubts]
    assert kinds == ([Concern.APPROXIMATION] if written.approximate else [])


def test_a_folder_or_a_pattern_is_a_fit_and_a_label_is_none(tmp_path):
    stan(tmp_path)
    (tmp_path / "empty").mkdir()
    assert holds_draws(str(tmp_path))
    assert holds_draws(str(tmp_path / "*.csv"))
    for word in ("mvn/reverse-kl", "", str(tmp_path / "empty")):
        assert not holds_draws(word)


# --- what is refused ------------------------------------------------------------------------


def spoilt_lengths(folder):
    stan(folder)
    stan_file(folder / "linear-2.csv", chain(drawn(n=90), 0))
    return folder


def spoilt_entries(folder):
    found = table(folder, "chain", first=2)
    return found.given


def spoilt_texts(folder):
    values = drawn()
    words = dataset(values | {"mu": np.full((CHAINS, N), "a")})
    return inference_data(folder / "a.nc", posterior=words)


def spoilt_case(folder):
    values = drawn()
    lower = {name: v for name, v in values.items() if name != "K"}
    return inference_data(folder / "a.nc", posterior=dataset(lower))


def spoilt_axes(folder):
    np.savez(folder / "a.npz", **{n: v.swapaxes(0, 1) for n, v in drawn(chains=4, n=500).items()})
    return folder / "a.npz"


def spoilt_cat(folder):
    stan(folder)
    lines = "".join((folder / f"linear-{c}.csv").read_text() for c in (1, 2))
    head = next(line for line in lines.splitlines() if line.startswith("lp__"))
    first, *others = lines.split(head)
    (folder / "cat.csv").write_text(first + head + "".join(others))
    return folder / "cat.csv"


def spoilt_json(made):
    def spoil(folder):
        (folder / "a.json").write_text(made(drawn()))
        return folder / "a.json"

    return spoil


def spoilt_gap(folder):
    path = table(folder, "chain").given
    lines = path.read_text().splitlines()
    lines[6] = "," + lines[6].partition(",")[2]
    path.write_text("\n".join(lines))
    return path


REFUSED = {
    "chains of two lengths": (spoilt_lengths, "cut the chains to one length"),
    "an entry is missing": (spoilt_entries, "holds 3 entries of 'beta'"),
    "texts": (spoilt_texts, "'mu' as texts or dates"),
    "k for K": (spoilt_case, "holds no 'K', which the model has"),
    "draws × chains": (spoilt_axes, "500 chains of 4 draws, too short to be judged"),
    "one after another": (spoilt_cat, "2 chains of CmdStan, one after another"),
    "an empty cell": (spoilt_gap, "row 7, column 'mu': a value is missing"),
    "nothing": (lambda f: f / "none-*.csv", "there is no file"),
    "a folder of nothing": (lambda f: f, "holds no file that ends in .nc"),
    "twice": (lambda f: [stan(f).given / "linear-1.csv"] * 2, "is given twice"),
    "scalars": (
        spoilt_json(lambda v: json.dumps([{"mu": 1.0}] * 4)),
        "'mu' must be a list of draws in every chain",
    ),
    "ragged chains": (
        spoilt_json(lambda v: json.dumps([{"mu": [1.0] * n} for n in (500, 400)])),
        "all of one length; they are of 400, 500",
    ),
    "other parameters": (
        spoilt_json(lambda v: json.dumps([{"mu": [1.0]}, {"nu": [1.0]}])),
        "chain 2 holds other parameters than the first",
    ),
    "one draw a chain": (
        spoilt_json(lambda v: json.dumps(posteriordb_of(drawn(chains=401, n=1)))),
        "401 chains of 1 draws, too short to be judged",
    ),
    "a huge integer": (
        spoilt_json(lambda v: json.dumps([{"mu": [10**400]}])),
        "'mu' holds a number beyond 1.8e308",
    ),
    "a key twice": (
        spoilt_json(lambda v: '[{"mu": [1.0], "mu": [2.0]}]'),
        "holds 'mu' twice; keep one of them",
    ),
    "a number": (spoilt_json(lambda v: "3"), "must be a list of chains"),
}


def posteriordb_of(values) -> list[dict[str, Any]]:
    return [lists(columns(chain(values, c), "{}[{}]", ",")) for c in range(len(values["mu"]))]


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_read_is_refused_in_one_line(name, tmp_path):
    spoil, expected = REFUSED[name]
    with pytest.raises(InputError) as caught:
        read_draws(spoil(tmp_path), TARGET)
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)


def test_words_and_files_do_not_stand_together(tmp_path):
    path = stan(tmp_path).given / "linear-1.csv"
    assert Settings(reference=[str(path)]).source == "file"
    assert Settings(reference="nuts").files == []
    for bad in (["nuts", str(path)], "", "none.csv", [str(path), "none-*.csv"]):
        with pytest.raises(InputError):
            Settings(reference=bad)


def test_few_draws_are_refused_wherever_they_come_from():
    two = {name: v.reshape(-1, *v.shape[2:])[:2] for name, v in drawn().items()}
    with pytest.raises(InputError, match="2 draws, which are too few"):
        Given("two", draws=two).approximation(TARGET)


# --- what they are worth ----------------------------------------------------------------------


def line():
    numpyro.sample("x", dist.Normal(0.0, 1.0))


LINE = Target(line)


def on_the_line(x: np.ndarray) -> Draws:
    """x (chains, n) as draws of a standard normal."""
    flat = jnp.asarray(x.reshape(-1))
    return Draws(flat[:, None], {"x": flat}, -0.5 * flat**2, chains=len(x))


def test_only_what_must_be_disjoint_is_cut_off():
    """Metrics see all that nothing was fitted to; so does log Z of what its choice left."""
    x = np.random.default_rng(3).normal(size=(4, 2503))
    found = from_given(LINE, on_the_line(x), None, {})
    parts = {name: set(np.asarray(getattr(found, name).values["x"]).tolist()) for name in PARTS}
    assert len(found.test) == 4 * (2503 - 626)
    assert parts["train"] | parts["test"] == set(x.ravel().tolist())
    for one, other in (("train", "test"), ("floor", "test"), ("bridge", "pilot")):
        assert not parts[one] & parts[other]
    for later in ("bridge", "pilot"):
        assert parts[later] < parts["test"]
        assert not parts[later] & parts["train"]
    # Every part sees every chain, in its order.
    kept = np.asarray(found.test.values["x"]).reshape(4, -1)
    np.testing.assert_array_equal(kept, x[:, 626:])


PARTS = ("train", "test", "floor", "bridge", "pilot")


def test_a_single_chain_is_judged_by_its_halves():
    """R-hat is above 1.01 where four quarters of 5,000 draws spread by more than √26 of their
    standard errors, χ²₃ > 26: once in 100,000 such chains."""
    for seed in range(10):
        x = np.random.default_rng(seed).normal(size=(1, 5000))
        assert from_given(LINE, on_the_line(x), None, {}).doubts == ()
    drifting = x + np.linspace(-1, 1, 5000)
    kinds = [doubt.kind for doubt in from_given(LINE, on_the_line(drifting), None, {}).doubts]
    assert Concern.CHAINS_DISAGREE in kinds


@pytest.mark.parametrize(("share", "doubted"), [(None, False), (0.0005, False), (0.4, True)])
def test_divergences_count_against_draws_made_elsewhere(share, doubted):
    x = np.random.default_rng(5).normal(size=(4, 1000))
    found = from_given(LINE, on_the_line(x), share, {}).doubts
    assert [doubt.kind for doubt in found] == [Concern.DIVERGENCES] * doubted
    assert not doubted or "40 % of its transitions diverged" in found[0].words


def test_draws_of_an_approximation_are_worth_what_their_weights_say(tmp_path):
    """Kish's (Σw)²/Σw², by hand; the draws are in doubt however good the weights are."""
    found = read_draws(stan_approximate(tmp_path, ADVI).given, TARGET)
    w = np.exp(np.linspace(-30, -28, 500) + 3)
    assert f"its 500 draws are worth {w.sum() ** 2 / (w**2).sum():.0f}" in found.doubts[0].words


def test_draws_that_never_vary_are_no_reference():
    with pytest.raises(InputError, match="holds draws of 'x' that are all the same"):
        check_draws(LINE, {"x": np.ones(800)}, 800, "the file holds")


def test_the_page_and_the_verdict_say_where_draws_came_from_and_what_they_cannot_settle(tmp_path):
    """N(0, 1) given as a fit and, with 40 % divergent transitions, as the reference; without
    divergences the words that 7,500 draws cannot settle are named."""
    from vi_compare.report import render

    rng = np.random.default_rng(11)
    for c, share in ((0, 0.4), (1, 0.4), (2, 0.0), (3, 0.0)):
        flagged = rng.random(5000) < share
        pairs = zip(rng.normal(size=5000), flagged, strict=True)
        body = "\n".join(f"{x:.8f},{int(d)}" for x, d in pairs)
        (tmp_path / f"{'bad' if share else 'good'}-{c}.csv").write_text(f"x,divergent__\n{body}\n")
    exact = {"auto_loc": [0.0], "auto_scale_tril": [[1.0]]}
    study = Study(line, fits=[Given("exact", "mvn", params=exact)])
    words = {}
    for which in ("bad", "good"):
        settings = Settings(reference=str(tmp_path / f"{which}-*.csv"))
        comparison = study.run(settings)
        words[which] = comparison.fits[0]["verdict"]
        assert comparison.results["target"]["reference"]["draws"] == 7500
    assert words["bad"]["word"] == "Unverified"
    assert "% of its transitions diverged" in words["bad"]["reasons"][0]
    assert words["good"]["word"] == "Faithful"
    assert "Too few draws to settle Light tails and Heavy tails: 7 500" in words["good"]["reasons"][
        -1
    ].replace("\u202f", " ").replace("\u2009", " ")
    assert "good-2.csv and good-3.csv" in render(comparison)


# --- data -------------------------------------------------------------------------------------

GAPS = """
    import jax.numpy as jnp, numpyro, numpyro.distributions as dist

    def masks(x, y):
        b = numpyro.sample("b", dist.Normal(0.0, 2.0))
        ok = ~jnp.isnan(y)
        with numpyro.handlers.mask(mask=ok):
            numpyro.sample("y", dist.Normal(b * x, 1.0), obs=jnp.where(ok, y, 0.0))

    def model(x, y):
        b = numpyro.sample("b", dist.Normal(0.0, 2.0))
        numpyro.sample("y", dist.Normal(b * x, 1.0), obs=y)

    data = {"x": jnp.arange(5.0), "y": jnp.array([0.1, jnp.nan, 2.2, 2.9, jnp.inf])}
"""
ROWS = '"","x","y"\n"1",0.5,1.5\n"2",1.5,\n"3",2.5,NA\n"4",NaN,2.5\n"5",4.0,n/a\n'


def test_missing_values_are_one_rule_for_a_file_and_for_a_script(tmp_path):
    path = write(tmp_path, GAPS)
    (tmp_path / "gaps.csv").write_text(ROWS.replace("NaN", "3.5"))
    quiet = Settings(reference="none")
    for name, data in (("masks", tmp_path / "gaps.csv"), ("masks", None)):
        study = script.load(path, name, data)
        if data is None:  # an infinite value is no missing one, and this model does not mask it
            study = replace(study, data=study.data | {"y": study.data["y"].at[4].set(0.0)})
        assert study.prepare(quiet).target.dim == 1
    for data, expected in (
        (tmp_path / "gaps.csv", "gaps.csv, column 'y', row 3, 4, 6: missing, NaN or infinite"),
        (None, "data: 'y' at [1], [4]: missing, NaN or infinite"),
    ):
        with pytest.raises(InputError, match="mask them in the model") as caught:
            script.load(path, None, data).prepare(quiet)
        assert expected in str(caught.value)


def test_the_argument_that_does_harm_is_named_and_no_other(tmp_path):
    """`y` is masked; a covariate that is missing is not."""
    path = write(tmp_path, GAPS)
    (tmp_path / "gaps.csv").write_text(ROWS)
    with pytest.raises(InputError) as caught:
        script.load(path, "masks", tmp_path / "gaps.csv").prepare(Settings(reference="none"))
    assert "column 'x', row 5: missing" in str(caught.value)
    assert "'y'" not in str(caught.value)


def test_row_numbers_without_a_name_are_left_out_with_a_word(tmp_path):
    from vi_compare.files.data import read_data

    (tmp_path / "r.csv").write_text('"","x"\n"Mazda RX4",1\n"Datsun 710",2\n')
    data = read_data(tmp_path / "r.csv", lambda x: None)
    assert data["x"].tolist() == [1, 2]
    assert "no name" in data.told[0]
    (tmp_path / "short.csv").write_text("x,y\n1,\n2\n")
    with pytest.raises(InputError, match="row 3: 1 values for 2 columns"):
        read_data(tmp_path / "short.csv", lambda x, y: None)
