"""A guide's first look at its model, without what NumPyro computes there for MCMC.

``AutoContinuous`` makes its prototype by ``initialize_model``, which also evaluates log p
and its gradient at the initial point: outside compiled code, every operation of the model
compiled alone. One compiled evaluation afterwards says the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from numpyro import handlers
from numpyro.infer.autoguide import AutoContinuous


@contextmanager
def unweighed(guide: AutoContinuous) -> Iterator[None]:
    """Within, the guide's model has a log density of 0 from its second run on."""
    model = guide.model
    guide.model = weightless = _Weightless(model)
    try:
        yield
    finally:
        guide.model, weightless.over = model, True


class _Weightless:
    """The model while its guide is set up, and the model itself afterwards: the guide keeps
    functions of it. The first run is the prototype, which keeps the model's distributions."""

    def __init__(self, model: Callable):
        self.model, self.runs, self.over = model, 0, False

    def __call__(self, *args, **kwargs):
        self.runs += 1
        if self.over or self.runs == 1:
            return self.model(*args, **kwargs)
        with handlers.mask(mask=False):
            return self.model(*args, **kwargs)
