"""What a model observes: which sites of a trace are data, and data drawn anew in their place."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpyro.distributions as dist
from numpyro import handlers


def is_factor(site: Mapping[str, Any]) -> bool:
    """Whether a site is ``numpyro.factor``, which NumPyro keeps as an observation of nothing."""
    return site["type"] == "sample" and isinstance(innermost(site["fn"]), dist.Unit)


def is_data(site: Mapping[str, Any]) -> bool:
    """Whether a site is observed; a factor is no observation."""
    return site["type"] == "sample" and site["is_observed"] and not is_factor(site)


def innermost(fn: dist.Distribution) -> dist.Distribution:
    """A distribution without all that stands around it."""
    while hasattr(fn, "base_dist"):
        fn = fn.base_dist
    return fn


class Unobserved(handlers.uncondition):
    """Draws what a model observes, as many as it observed, also where one distribution stands for
    all of them outside of a plate."""

    def process_message(self, msg: dict) -> None:
        if is_data(msg):
            fn, rank = msg["fn"], len(msg["fn"].event_shape)
            seen = np.shape(msg["value"])
            batch = np.broadcast_shapes(fn.batch_shape, seen[: len(seen) - rank])
            msg["fn"] = fn.expand(batch) if batch != fn.batch_shape else fn
        super().process_message(msg)
