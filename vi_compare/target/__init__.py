"""Target: a NumPyro model bound to its data, as a log density over one flat vector."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from jax import Array
from numpyro import handlers
from numpyro.contrib.module import ParamShape
from numpyro.distributions import biject_to, constraints
from numpyro.infer.initialization import init_to_uniform
from numpyro.infer.util import constrain_fn, potential_energy
from numpyro.primitives import Messenger

from vi_compare.batches import in_batches
from vi_compare.errors import InputError, blamed, first_line
from vi_compare.estimate import Coordinates, labels
from vi_compare.evidence import Draws
from vi_compare.target.naming import Naming
from vi_compare.target.work import has_while, largest, operations

# Bytes of an array of which a cache holds as many as there are rows of a batch.
CACHED = 2**16
# Entries of a quantity, at most, that are measured one by one.
MOST_ENTRIES = 200


@dataclass(frozen=True)
class Site:
    """One latent site.

    Attributes:
        name: as in the model.
        shape: of a value.
        unconstrained_shape: of its unconstrained value.
        support: NumPyro's constraint, as the model was traced; in words.
        is_real: whether a value is its own unconstrained value.
        is_circle: whether its entries are angles, of which −π and π are one.
        dims: a name for every axis of a value: the plate's, or ``<site>_dim_<i>``.
    """

    name: str
    shape: tuple[int, ...]
    unconstrained_shape: tuple[int, ...]
    support: str
    is_real: bool
    is_circle: bool
    dims: tuple[str, ...]

    @property
    def is_entry_by_entry(self) -> bool:
        """Whether an unconstrained value has as many entries as a value."""
        return self.shape == self.unconstrained_shape

    @property
    def size(self) -> int:
        """How many entries of the flat vector it takes."""
        return math.prod(self.unconstrained_shape)


@dataclass(frozen=True)
class Quantity:
    """What the model, or a study, computes of the latent values: a margin like any other.

    Attributes:
        name: of the deterministic site, or as the study calls it.
        shape: of a value.
        dims: a name for every axis of a value.
    """

    name: str
    shape: tuple[int, ...]
    dims: tuple[str, ...]


@dataclass(frozen=True)
class _Structure:
    sites: tuple[Site, ...]
    normalised: bool
    subsampled: tuple[str, ...]
    plates: Mapping[str, int]
    quantities: tuple[Quantity, ...] = ()
    large: tuple[Quantity, ...] = ()


@dataclass(frozen=True, eq=False)
class Target:
    """A model bound to its data: p(u), with u (d,) the flat unconstrained vector.

    Beside its sites it has quantities: what the model, or a study, computes of them.

    The sites stand in u one after another in the order the model visits them, each
    raveled, each through NumPyro's own ``biject_to``; the density is over u, so it
    holds the log Jacobian. Two targets are equal only if they are the same object.

    Attributes:
        model: a NumPyro model.
        args, kwargs: what it is called with.
        key: seeds what the model draws besides its latent sites: minibatch indices. None:
            all data, also where plates ask for minibatches.
        functions: {name: function of {site: value}}, further quantities.
        naming: what a study calls axes, and the entries along them.

    Raises:
        InputError: at first use of its structure, when the model has no latent site, a
            discrete one, or ``mutable`` or ``param`` sites.
    """

    model: Callable
    args: tuple = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    key: Array | None = None
    functions: Mapping[str, Callable] = field(default_factory=dict)
    naming: Naming = field(default_factory=Naming)

    @property
    def unseeded(self) -> Callable:
        """The model, which sees all data where there is no key."""
        return _AllData(self.model) if self.key is None else self.model

    @property
    def seeded(self) -> Callable:
        return handlers.seed(self.unseeded, jax.random.key(0) if self.key is None else self.key)

    @cached_property
    def _structure(self) -> _Structure:
        found = []

        def visit(args, kwargs):
            # Improper sites cannot be sampled, so values come as an AutoGuide starts.
            seeded = handlers.seed(self.model, jax.random.key(0) if self.key is None else self.key)
            model = handlers.substitute(seeded, substitute_fn=init_to_uniform)
            trace = handlers.trace(model).get_trace(*args, **kwargs)
            found.append(_with_quantities(_read(trace), trace, self.functions))
            if found[0].subsampled and self.key is None:
                self._see_all_data(found[0].subsampled, args, kwargs)
            return 0

        # eval_shape runs no arithmetic, so this is cheap also inside a traced loss.
        jax.eval_shape(lambda: visit(self.args, self.kwargs))
        return found[0]

    def _see_all_data(self, subsampled: tuple[str, ...], args: tuple, kwargs: Mapping) -> None:
        """Run the model with its plates whole.

        Raises:
            InputError: when the data are a minibatch themselves, shorter than their plate.
        """
        model = handlers.substitute(self.seeded, substitute_fn=init_to_uniform)
        plates = ", ".join(map(repr, subsampled))
        remedy = "give all rows as data: minibatches are drawn from them"
        try:
            trace = handlers.trace(model).get_trace(*args, **kwargs)
        except Exception as error:  # whatever a user's model raises
            raise InputError(
                f"the plate {plates} cannot be seen whole ({_said(error)}), perhaps because "
                f"the data are one minibatch of it; {remedy}"
            ) from error
        if short := _shorter_than_its_plate(trace, subsampled):
            site, plate, rows = short
            raise InputError(
                f"the plate {plate!r} has {rows:,} rows and the data of site {site!r} fewer; "
                f"{remedy}"
            )

    def check(self) -> None:
        """Trace all that will be asked of the model, without evaluating it.

        Raises:
            InputError: when it has no latent site, other sites at every call, or a log
                density that is no real number. What NumPyro and JAX raise passes.
        """
        with warnings.catch_warnings():
            # NumPyro warns of values outside a support; where they come to nothing, the
            # starting points tell.
            warnings.simplefilter("ignore")
            self._check()

    def _check(self) -> None:
        if self.sites != replace(self).sites:
            raise InputError(
                "the model has other sites, or sites of other shapes, at every call; let them "
                "depend on its arguments alone"
            )
        one = jax.ShapeDtypeStruct((self.dim,), jnp.result_type(float))
        log_p = jax.eval_shape(self._log_density, one)
        if not jnp.issubdtype(log_p.dtype, jnp.floating):
            raise InputError(
                f"the model's log density is of type {log_p.dtype} where a real number is due; "
                f"look at its factors and at what its distributions are given"
            )
        jax.eval_shape(self.everything, one)
        _forget_other_precision(self, one)

    @property
    def sites(self) -> tuple[Site, ...]:
        return self._structure.sites

    @property
    def owners(self) -> list[Site]:
        """The site that each entry of u belongs to (d,)."""
        return [site for site in self.sites for _ in range(site.size)]

    @property
    def dim(self) -> int:
        return sum(site.size for site in self.sites)

    @property
    def quantities(self) -> tuple[Quantity, ...]:
        """Of deterministic sites and of the study's functions."""
        return self._structure.quantities

    @property
    def large(self) -> tuple[Quantity, ...]:
        """Quantities with too many entries to be measured one by one."""
        return self._structure.large

    @cached_property
    def dims(self) -> dict[str, tuple[str, ...]]:
        """{site or quantity: a name for every axis of its value}.

        Raises:
            InputError: when the study's own names do not fit the model.
        """
        found = self.naming.dims_of([*self._measured, *self.large])
        return {one.name: found[one.name] for one in self._measured}

    @cached_property
    def coords(self) -> dict[str, Coordinates]:
        """{site or quantity: coordinates of its axes}, of those whose entries have names.

        Raises:
            InputError: when the study's own names do not fit the model.
        """
        known = [*self._measured, *self.large]
        found = self.naming.coords_of(known, self._structure.plates)
        return {one.name: found[one.name] for one in self._measured if one.name in found}

    @property
    def _measured(self) -> tuple[Site | Quantity, ...]:
        return (*self.sites, *self.quantities)

    @property
    def coordinates(self) -> list[str]:
        """A label for each entry of u (d,): that of the site's own entry where it has as many."""
        out = []
        for site in self.sites:
            own = self.coords.get(site.name, ()) if site.is_entry_by_entry else ()
            out += labels(site.name, site.unconstrained_shape, own)
        return out

    @property
    def numbers_of_a_draw(self) -> int:
        """How many numbers a draw is: u, values and both densities."""
        shapes = [site.shape for site in self.sites] + [one.shape for one in self.quantities]
        return self.dim + sum(map(math.prod, shapes)) + 2

    @property
    def normalised(self) -> bool:
        """Whether log Z = 0 exactly: nothing observed, no factor, no improper or scaled site."""
        return self._structure.normalised

    @property
    def subsampled(self) -> tuple[str, ...]:
        """Names of the plates that see a minibatch."""
        return self._structure.subsampled

    @cached_property
    def operations(self) -> float:
        """Floating-point operations of one gradient of log p, at points such as searches begin
        at; 0 where XLA does not count them."""
        points = np.random.default_rng(0).uniform(-2, 2, (32, self.dim))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # as in `check`
            return operations(jax.grad(self.log_density), jnp.asarray(points))

    @cached_property
    def one_by_one(self) -> bool:
        """Whether many points take less time one after another than side by side: where an array
        in log p is so large that a cache would not hold several (memory is then what takes the
        time), or where a loop ends sooner at some points than at others, which would wait."""
        program = jax.make_jaxpr(self.log_density)(jnp.zeros(self.dim)).jaxpr
        return largest(program) > CACHED or has_while(program)

    def over_points(self, function: Callable) -> Callable:
        """The function of a point (d,), which asks for log p, as one of many (n, d)."""
        return partial(jax.lax.map, function) if self.one_by_one else jax.vmap(function)

    def unravel(self, u: Array) -> dict[str, Array]:
        """u (d,) -> {site: unconstrained value}."""
        out, start = {}, 0
        for site in self.sites:
            out[site.name] = u[start : start + site.size].reshape(site.unconstrained_shape)
            start += site.size
        return out

    def ravel(self, unconstrained: Mapping[str, Array]) -> Array:
        """{site: unconstrained value} -> u (d,)."""
        return jnp.concatenate([jnp.ravel(unconstrained[site.name]) for site in self.sites])

    def log_density(self, u: Array) -> Array:
        """log p(u), up to log Z where the target is not normalised; u (d,) -> ()."""
        # Every compiled function that asks for it shares one trace of the model. A target
        # with a key lives inside one trace only, and may hold its tracers.
        return _log_density(self, u) if self.key is None else self._log_density(u)

    def _log_density(self, u: Array) -> Array:
        return -potential_energy(self.seeded, self.args, dict(self.kwargs), self.unravel(u))

    def constrain(self, u: Array) -> dict[str, Array]:
        """u (d,) -> {site: value}."""
        return constrain_fn(self.seeded, self.args, dict(self.kwargs), self.unravel(u))

    def everything(self, u: Array) -> dict[str, Array]:
        """u (d,) -> {site or quantity: value}."""
        if not self.quantities:
            return self.constrain(u)
        known = (self.seeded, self.args, dict(self.kwargs), self.unravel(u))
        found = constrain_fn(*known, return_deterministic=True)
        found |= {name: jnp.asarray(of(found)) for name, of in self.functions.items()}
        sites = {site.name: found[site.name] for site in self.sites}
        real = lambda value: jnp.asarray(value, jnp.result_type(float))
        return sites | {one.name: real(found[one.name]) for one in self.quantities}

    def unconstrain(self, values: Mapping[str, Array]) -> Array:
        """{site: value} -> u (d,).

        Loses digits where a value is near the edge of its support; keep u where you have it.
        """
        transforms = self.transforms(values)
        return self.ravel({s.name: transforms[s.name].inv(values[s.name]) for s in self.sites})

    def transforms(self, values: Mapping[str, Array]) -> dict[str, Any]:
        """The bijection from unconstrained to constrained of every site, at these values."""
        trace = self.trace(values)
        return {site.name: bijection_of(trace[site.name]["fn"]) for site in self.sites}

    def trace(self, values: Mapping[str, Array]) -> dict[str, dict]:
        """One run of the model at values {latent site: value}, site by site, as NumPyro has it."""
        with handlers.block():
            model = handlers.substitute(self.seeded, data=dict(values))
            return handlers.trace(model).get_trace(*self.args, **self.kwargs)

    def draws(self, values: Mapping[str, Array]) -> Draws:
        """Values {site: (n, ...)} made elsewhere, as draws with u and log_p."""
        return self.complete(in_batches(_unconstrain, self)(dict(values)), values)

    def complete(self, u: Array, values: Mapping[str, Array] | None = None) -> Draws:
        """u (n, d) -> draws with values, of the quantities too, and log_p, computed in batches."""
        log_p, found = in_batches(_evaluate, self)(u)
        return Draws(u, found | dict(values or {}), log_p, coords=tuple(self.coords.items()))


class _AllData(Messenger):
    """Runs a model on all of its data: every plate is seen whole."""

    def process_message(self, msg: dict) -> None:
        if msg["type"] == "plate":
            size = msg["args"][0]
            msg["args"], msg["value"] = (size, size), jnp.arange(size)


def bijection_of(fn: dist.Distribution) -> Any:
    """NumPyro's bijection to the support of a distribution.

    Bounds that a model writes as numbers stay numbers also while it is traced, so that
    two bijections can be compared.
    """
    with jax.ensure_compile_time_eval():
        return biject_to(fn.support)


def _forget_other_precision(target: Target, one: jax.ShapeDtypeStruct) -> None:
    """Let JAX forget what it keeps of arrays that a model refers to outside its data, where that
    is of another precision: operations then refuse it."""
    slopes = lambda: jax.make_jaxpr(jax.grad(target.log_density))(one)
    try:
        slopes()
    except TypeError:
        jax.clear_caches()
        slopes()


@partial(jax.jit, static_argnums=0)
def _log_density(target: Target, u: Array) -> Array:
    return target._log_density(u)


@partial(jax.jit, static_argnums=0)
def _evaluate(target: Target, u: Array):
    return target.over_points(lambda one: (target.log_density(one), target.everything(one)))(u)


@partial(jax.jit, static_argnums=0)
def _unconstrain(target: Target, values: dict[str, Array]) -> Array:
    return jax.vmap(target.unconstrain)(values)


def _read(trace: Mapping[str, dict]) -> _Structure:
    """What can be said of a model from one trace of it."""
    plates = [s for s in trace.values() if s["type"] == "plate"]
    subsampled = tuple(s["name"] for s in plates if s["args"][0] != s["value"].shape[0])
    sites, normalised = [], True
    for name, site in trace.items():
        if site["type"] == "param" and _has_its_prior(site["value"]):
            continue
        if site["type"] in ("param", "mutable"):
            raise InputError(
                f"the model has the {site['type']} site {name!r}, which is learned outside the "
                f"approximation; give it a prior with numpyro.sample or fix its value"
            )
        if site["type"] != "sample":
            continue
        if site["is_observed"]:
            _refuse_no_numbers(name, site["value"])
            normalised = False
            continue
        normalised &= site["scale"] is None and not is_improper(site["fn"])
        sites.append(_latent(name, site, subsampled))
    if not sites:
        raise InputError(
            "the model has no latent site, so there is nothing to approximate; "
            "add a numpyro.sample(...) without obs="
        )
    sizes = {s["name"]: s["args"][0] for s in plates}
    return _Structure(tuple(sites), normalised, subsampled, sizes)


def _with_quantities(
    found: _Structure, trace: Mapping[str, dict], functions: Mapping[str, Callable]
) -> _Structure:
    """The same with what is computed of the latent values.

    Raises:
        InputError: when a function has the name of a site, raises, or returns no numbers.
    """
    values = {name: site["value"] for name, site in trace.items() if site["type"] != "plate"}
    made = [
        _quantity(name, site["value"], plates(site))
        for name, site in trace.items()
        if site["type"] == "deterministic"
    ]
    for name, of in functions.items():
        if name in values:
            raise InputError(f"the quantity {name!r} has the name of a site; give it another one")
        with blamed(f"the quantity {name!r} raises"):
            value = of(dict(values))
        if (quantity := _quantity(name, value, {})) is None:
            raise InputError(f"the quantity {name!r} returns {value!r:.60}; return real numbers")
        made.append(quantity)
    known = [one for one in made if one is not None]
    few = tuple(one for one in known if math.prod(one.shape) <= MOST_ENTRIES)
    return replace(found, quantities=few, large=tuple(one for one in known if one not in few))


def _quantity(name: str, value: Any, frames: Mapping[int, tuple[str, int]]) -> Quantity | None:
    """None for what is not of real numbers, or has no entry."""
    try:
        kind, shape = jnp.result_type(value), jnp.shape(value)
    except (TypeError, ValueError):
        return None
    is_real = jnp.issubdtype(kind, jnp.number) or jnp.issubdtype(kind, jnp.bool_)
    if not is_real or jnp.issubdtype(kind, jnp.complexfloating) or not math.prod(shape):
        return None
    return Quantity(name, shape, dims_of(name, shape, frames))


def dims_of(
    name: str, shape: tuple[int, ...], frames: Mapping[int, tuple[str, int]]
) -> tuple[str, ...]:
    """A name for every axis: of the plate that it is, or ``<name>_dim_<i>``."""
    found = [f"{name}_dim_{i}" for i in range(len(shape))]
    for dim, (plate, size) in frames.items():
        if -dim <= len(shape) and shape[dim] == size:
            found[dim] = plate
    return tuple(found)


def plates(site: Mapping[str, Any]) -> dict[int, tuple[str, int]]:
    """{axis from the right: (plate, size)} that a site of a trace stands in."""
    return {frame.dim: (frame.name, frame.size) for frame in site.get("cond_indep_stack", ())}


def _latent(name: str, site: Mapping[str, Any], subsampled: tuple[str, ...]) -> Site:
    fn, shape = site["fn"], jnp.shape(site["value"])
    if fn.support.is_discrete:
        raise InputError(
            f"site {name!r} is discrete ({type(fn).__name__}), and these approximations are "
            f"continuous; sum it out, e.g. with numpyro.distributions.MixtureSameFamily"
        )
    if within := [f.name for f in site["cond_indep_stack"] if f.name in subsampled]:
        raise InputError(
            f"site {name!r} is latent inside the minibatch plate {within[0]!r}, so only a part "
            f"of it exists at a time; leave subsample_size out, or move it out of the plate"
        )
    if not math.prod(shape):
        raise InputError(
            f"site {name!r} is of shape {shape}, which has no entry; leave it out, or give "
            f"the data that it belongs to"
        )
    unconstrained_shape = biject_to(fn.support).inverse_shape(shape)
    one = _innermost(fn.support)
    real, circle = one is constraints.real, one is constraints.circular
    dims = _dims(site, shape)
    return Site(name, shape, unconstrained_shape, str(fn.support), real, circle, dims)


def _refuse_no_numbers(name: str, value: Any) -> None:
    """Refuse observations that JAX cannot compute with; it would say so without their site."""
    kind = getattr(value, "dtype", None)
    if kind is None:
        kind = np.asarray(value).dtype
    if isinstance(kind, np.dtype) and kind.kind in "OSUMmc":
        raise InputError(
            f"site {name!r} is observed as {value!r:.60}, of type {kind}; give real numbers of 64 "
            f"bits at most"
        )


def _said(error: BaseException) -> str:
    """What the model itself raised, without the words that it was refused in."""
    return first_line(error.__cause__ or error)


def _shorter_than_its_plate(
    trace: Mapping[str, dict], subsampled: tuple[str, ...]
) -> tuple[str, str, int] | None:
    """An observed site whose data do not fill a plate that is seen whole: site, plate, rows."""
    for name, site in trace.items():
        if site["type"] != "sample" or not site["is_observed"]:
            continue
        shape, rank = jnp.shape(site["value"]), len(site["fn"].event_shape)
        for frame in site["cond_indep_stack"]:
            axis = len(shape) - rank + frame.dim
            # One number without an axis is meant for every row.
            if frame.name in subsampled and axis >= 0 and shape[axis] != frame.size:
                return name, frame.name, frame.size
    return None


def _has_its_prior(value: Any) -> bool:
    """Whether a network's parameters are sampled: NumPyro's ``random_*_module`` leaves nothing
    but their shapes in the param site."""
    leaves = jax.tree.leaves(value, is_leaf=lambda leaf: isinstance(leaf, ParamShape))
    return bool(leaves) and all(isinstance(leaf, ParamShape) for leaf in leaves)


def _dims(site: Mapping[str, Any], shape: tuple[int, ...]) -> tuple[str, ...]:
    """The plates that a site stands in, by axis; event axes are counted."""
    dims = [f"{site['name']}_dim_{i}" for i in range(len(shape))]
    batch = len(shape) - len(site["fn"].event_shape)
    for frame in site["cond_indep_stack"]:
        if shape[batch + frame.dim] == frame.size:
            dims[batch + frame.dim] = frame.name
    return tuple(dims)


def _innermost(support: constraints.Constraint) -> constraints.Constraint:
    """The support of one entry, without the event axes around it."""
    while isinstance(support, constraints.independent):
        support = support.base_constraint
    return support


def is_improper(fn: dist.Distribution) -> bool:
    """Whether the distribution, or what it wraps, is improper or partly masked."""
    while True:
        if isinstance(fn, dist.ImproperUniform | dist.MaskedDistribution):
            return True
        if not hasattr(fn, "base_dist"):
            return False
        fn = fn.base_dist
