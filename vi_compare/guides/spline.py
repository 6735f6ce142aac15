"""Spline flow around a Gaussian: each half of the coordinates bent by splines that the other sets.

By FlowJAX, an optional extra: ``pip install 'vi-compare[flows]'``.
"""

from __future__ import annotations

from typing import Literal

from vi_compare.guides._flow import AutoFlow


class AutoSpline(AutoFlow):
    """A flow of couplings by rational-quadratic splines (Durkan, Bekasov, Murray and Papamakarios
    2019, "Neural spline flows"), each followed by an affine one, as a spline is the identity
    outside of [−interval, interval] and scales nothing there.

    ``SVI(model, AutoSpline(model), optim, Trace_ELBO())``; see `AutoFlow` for the rest.

    Attributes:
        knots: of each spline, between its ends.
        interval: half the length that a spline bends, in standard deviations.
    """

    label = "spline"
    knots = 8
    interval = 4.0

    def begun(self, dim, shape):
        from vi_compare.guides import _flowjax

        return _flowjax.flow(_flowjax.spline(self.knots, self.interval), dim, shape)


def build(model, layers: int | Literal["auto"] = "auto", width: int = 64) -> AutoSpline:
    """Flow of rational-quadratic splines around a Gaussian (FlowJAX): enough, or spline:6."""
    return AutoSpline(model, 0 if layers == "auto" else layers, width)
