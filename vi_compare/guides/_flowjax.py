"""The bijections of the flow guides, made of FlowJAX's; imported when a flow is first made."""

from __future__ import annotations

from functools import partial

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from flowjax.bijections import (
    AbstractBijection,
    Affine,
    Chain,
    Coupling,
    Permute,
    RationalQuadraticSpline,
    Scan,
)
from jax import Array
from paramax import Parameterize

from vi_compare.guides._flow import FlowShape, halves, layers_for


def affine(most: float = 10.0) -> AbstractBijection:
    """x ↦ eˢ x + t, begun as the identity, as in RealNVP (Dinh et al. 2017).

    |s| stays below `most`, far beyond what a target asks of one layer. Without a limit the
    exponentials of several layers pile up far from the mass, and log q is lost to overflow.
    """
    scale = Parameterize(lambda s: jnp.exp(most * jnp.tanh(s / most)), jnp.zeros(()))
    return eqx.tree_at(lambda made: made.scale, Affine(), scale)


def spline(knots: int, interval: float, least: float = 1e-3) -> AbstractBijection:
    """A rational-quadratic spline on [−interval, interval] (Durkan et al. 2019), the identity
    outside, and then `affine`; begun as the identity.

    Its slope is `least` or more, and 1 at both ends, as in the paper: FlowJAX leaves these free,
    and the density would jump there, which no gradient along the draws can see.
    """
    made = RationalQuadraticSpline(knots=knots, interval=interval, min_derivative=least)

    def slopes(free: Array) -> Array:
        ends = [(0, 0)] * (free.ndim - 1) + [(1, 1)]  # of one spline, or of many
        return jnp.pad(jax.nn.softplus(free) + least, ends, constant_values=1.0)

    begun = jnp.full(knots, jnp.log(jnp.expm1(1 - least)))
    made = eqx.tree_at(lambda s: s.derivatives, made, Parameterize(slopes, begun))
    return Chain([made, affine()])


def flow(transformer: AbstractBijection, dim: int, shape: FlowShape) -> Scan:
    """The bijection of a flow guide over v (dim,), begun as the identity.

    One layer moves half of the coordinates given the others, and then those given the moved.
    """
    count = shape.layers or max(shape.fewest, layers_for(dim))
    orders = jnp.asarray(np.stack([halves(dim, number) for number in range(count)]))
    layer = partial(_layer, transformer, shape)
    return Scan(eqx.filter_vmap(layer)(jax.random.split(jax.random.key(0), count), orders))


def _layer(transformer: AbstractBijection, shape: FlowShape, key: Array, order: Array) -> Chain:
    first, second = jax.random.split(key)
    dim = len(order)
    given = dim - dim // 2
    turned = np.roll(np.arange(dim), -given)
    return Chain(
        [
            Permute(order),
            _coupling(first, transformer, shape, given, dim),
            Permute(turned),
            _coupling(second, transformer, shape, dim - given, dim),
            Permute(jnp.argsort(order[turned])),
        ]
    )


def _coupling(
    key: Array,
    transformer: AbstractBijection,
    shape: FlowShape,
    given: int,
    dim: int,
    seen: float = 5.0,
) -> Coupling:
    """Moves all coordinates but the first `given`. Its network's biases and last weights are zero
    at first, which leaves the transformer as it is.

    Weights are kept in units of 1/inputs, so that a step of Adam moves what a network says about
    as far as a location or a log scale, whatever its width (Yang et al. 2021, "Tensor programs V");
    biases in tenths, as theirs moves it everywhere.
    """
    made = Coupling(
        key,
        transformer=transformer,
        untransformed_dim=given,
        dim=dim,
        nn_width=shape.width,
        nn_depth=shape.depth,
        nn_activation=jax.nn.silu,
    )
    weights = lambda coupling: [layer.weight for layer in coupling.conditioner.layers]
    biases = lambda coupling: [layer.bias for layer in coupling.conditioner.layers]
    *hidden, last = weights(made)
    scaled = [_in_units(w, 1 / w.shape[1]) for w in (*hidden, jnp.zeros_like(last))]
    made = eqx.tree_at(weights, made, scaled)
    zeros = [_in_units(jnp.zeros_like(bias), 0.1) for bias in biases(made)]
    made = eqx.tree_at(biases, made, zeros)
    # Far out, where nothing was learned, what a network says stays as it was at the rim.
    rim = eqx.nn.Lambda(lambda x: seen * jnp.tanh(x / seen))
    behind = eqx.nn.Sequential([rim, made.conditioner])
    return eqx.tree_at(lambda coupling: coupling.conditioner, made, behind)


def _in_units(weight: Array, unit: float) -> Parameterize:
    return Parameterize(lambda leaf: leaf * unit, weight / unit)
