"""A fit corrected by linear response."""

from __future__ import annotations

from vi_compare.approximation import GuideApproximation
from vi_compare.divergences import Divergence
from vi_compare.errors import InputError
from vi_compare.evidence import Response
from vi_compare.randomness import generator, key_for
from vi_compare.solvers import Fit
from vi_compare.verdict import Status


def response(divergence: Divergence | None, fit: Fit, seed: int, label: str) -> Response:
    """Corrected standard deviations of the fit with this full label, or why there are none."""
    q = fit.approximation
    if divergence is None or not isinstance(q, GuideApproximation):
        return Response(reason="linear response is of a fit by a divergence")
    if fit.status is Status.NOT_CONVERGED:
        return Response(reason="linear response holds at the optimum; this fit is not there")
    key = key_for(seed, f"{label}/linear response")
    try:
        return divergence.linear_response(q, generator(key))
    except InputError as error:
        return Response(reason=str(error))
