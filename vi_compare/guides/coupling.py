"""Coupling flow around a Gaussian: each half of the coordinates moved and scaled by the other.

By FlowJAX, an optional extra: ``pip install 'vi-compare[flows]'``.
"""

from __future__ import annotations

from typing import Literal

from vi_compare.guides._flow import AutoFlow


class AutoCoupling(AutoFlow):
    """A flow of affine couplings (Dinh, Sohl-Dickstein and Bengio 2017, "Density estimation
    using Real NVP"): x ↦ eˢ x + t, with s and t any functions of the other half of the
    coordinates: scales over many orders of magnitude, as funnels need; given the other half, q of
    a half stays a Gaussian in every layer.

    ``SVI(model, AutoCoupling(model), optim, Trace_ELBO())``; see `AutoFlow` for the rest.
    """

    label = "coupling"

    def begun(self, dim, shape):
        from vi_compare.guides import _flowjax

        return _flowjax.flow(_flowjax.affine(), dim, shape)


def build(model, layers: int | Literal["auto"] = "auto", width: int = 64) -> AutoCoupling:
    """Flow of affine couplings around a Gaussian (FlowJAX): enough layers, or coupling:6."""
    return AutoCoupling(model, 0 if layers == "auto" else layers, width)
