"""Name what was not finite: the parameter, or the site of the model and the point."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
from jax import Array
from numpyro import handlers

from vi_compare import families
from vi_compare.approximation import GuideApproximation
from vi_compare.target import Target


def blame(q: GuideApproximation, key: Array, draws: int = 256) -> str:
    """Name the first thing that is not finite at `draws` draws of q, in words.

    Meant for after a loss was NaN: a few hundred draws find what one step met.
    """
    if bad := [
        n for n, p in families.arrays(q.params).items() if not np.isfinite(np.asarray(p)).all()
    ]:
        return f"guide parameter {bad[0]!r} is not finite"
    target = q.target
    u = jax.vmap(q.draw)(jax.random.split(key, draws))
    log_p, gradient = jax.vmap(jax.value_and_grad(target.log_density))(u)
    for finite, tell in (
        (jnp.isfinite(log_p), _blame_site),
        (jnp.isfinite(gradient).all(axis=1), _blame_gradient),
    ):
        if not finite.all():
            # NumPyro's own checks would raise at the bad value; its place is wanted.
            with numpyro.validation_enabled(False):
                return tell(target, u[int(np.flatnonzero(~np.asarray(finite))[0])])
    return "the loss or its gradient is not finite"


def _blame_site(target: Target, u: Array) -> str:
    values = target.constrain(u)
    with handlers.block():
        model = handlers.substitute(target.seeded, data=values)
        trace = handlers.trace(model).get_trace(*target.args, **target.kwargs)
    for name, site in trace.items():
        if site["type"] == "sample":
            log_p = np.asarray(site["fn"].log_prob(site["value"]))
            if not np.isfinite(log_p).all():
                what = "NaN" if np.isnan(log_p).any() else "−inf"
                return f"site {name!r} has log density {what} at {_show(values)}"
    return f"the log density is not finite at {_show(values)}"


def _blame_gradient(target: Target, u: Array) -> str:
    return f"the gradient of the log density is not finite at {_show(target.constrain(u))}"


def _show(values: dict[str, Array]) -> str:
    """A point in a few words: at most three sites, four entries each."""
    texts = []
    for name, value in list(values.items())[:3]:
        flat = np.ravel(np.asarray(value))
        more = ", …" if flat.size > 4 else ""
        texts.append(f"{name} = {', '.join(f'{x:.4g}' for x in flat[:4])}{more}")
    return "; ".join(texts)
