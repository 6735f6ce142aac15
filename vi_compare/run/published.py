"""Published figures against ours: difference in standard errors, rounding included."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.flatten_util import ravel_pytree

from vi_compare.approximation import GuideApproximation
from vi_compare.errors import InputError, nearest
from vi_compare.estimate import ALL, Estimate
from vi_compare.solvers import Fit
from vi_compare.verdict import Outcome, Status


@dataclass(frozen=True)
class Published:
    """Figures that somebody printed about one fit, as printed, digit by digit.

    Numbers are texts, because the last printed digit says how exact they claim to be.
    Components are compared in the order of their means. ::

        Published("mixture:2/forward-kl", source="the post, table 1",
                  weights=["0.52", "0.48"], means=["-1.98", "1.97"], sds=["0.41", "0.42"])

    Attributes:
        fit: name of the fit they are about.
        source: where they were printed.
        weights, means, sds: of a mixture's components on the line.
        metrics: {metric: text}, e.g. {"reverse_kl": "0.3524"}.
        mirror: whether the target is symmetric about 0, so that the mirror image of the
            fit is as good; the nearer one is compared.
    """

    fit: str
    source: str
    weights: Sequence[str] = ()
    means: Sequence[str] = ()
    sds: Sequence[str] = ()
    metrics: Mapping[str, str] = field(default_factory=dict)
    mirror: bool = False

    def __post_init__(self):
        for text in itertools.chain(self.weights, self.means, self.sds, self.metrics.values()):
            try:
                float(text)
            except (TypeError, ValueError):
                raise InputError(
                    f"published figures of {self.fit!r}: {text!r} is no number as text; "
                    f"write them as printed, in quotes"
                ) from None


def compare(
    entry: Published,
    fit: Fit,
    scores: Mapping[str, Mapping[str, Estimate]],
    limit: float = 3.0,
) -> list[dict]:
    """One row of the published-against-ours table per printed figure.

    Args:
        limit: standard errors within which a figure is reproduced; one that was printed
            right differs by more than three once in 370 times.

    Raises:
        InputError: when the fit has no such quantity.
    """
    row = partial(_row, entry, limit)
    rows = [row(name, text, scores[name][ALL]) for name, text in entry.metrics.items()]
    printed = {k: getattr(entry, k) for k in ("means", "sds", "weights") if getattr(entry, k)}
    if not printed or fit.approximation is None:
        return rows
    ours, errors = _components(fit, np.asarray(list(map(float, entry.means))), entry.mirror)
    for what, texts in printed.items():
        if len(texts) != len(ours[what]):
            raise InputError(
                f"published figures of {entry.fit!r}: {len(texts)} {what} are printed and the "
                f"fit has {len(ours[what])} components"
            )
        for k, text in enumerate(texts):
            error = None if errors is None else float(errors[what][k])
            rows.append(row(f"{what}[{k}]", text, Estimate(float(ours[what][k]), error)))
    return rows


def half_digit(text: str) -> float:
    """Half a unit of the last printed digit: "0.3524" -> 0.00005, "2e3" -> 500."""
    mantissa, _, exponent = text.strip().lower().partition("e")
    decimals = len(mantissa.partition(".")[2])
    return 0.5 * 10.0 ** (int(exponent or 0) - decimals)


def _row(
    entry: Published, limit: float, quantity: str, text: str, ours: Estimate
) -> dict[str, Any]:
    row = {"fit": entry.fit, "quantity": quantity, "source": entry.source, "published": text}
    if ours.value is None:
        return row | {"ours": None, "standard_error": None, "difference_in_standard_errors": None,
                      "result": Outcome.NOT_AVAILABLE, "reason": ours.reason}  # fmt: skip
    # A rounded figure is uniform over its last digit: variance (half a unit)² / 3.
    error = np.hypot(ours.standard_error or 0.0, half_digit(text) / np.sqrt(3))
    difference = float((float(text) - ours.value) / error)
    result = Outcome.REPRODUCED if abs(difference) <= limit else Outcome.NOT_REPRODUCED
    if ours.standard_error is None:
        result = Outcome.NO_ERROR
    return row | {
        "ours": ours.value,
        "standard_error": ours.standard_error,
        "difference_in_standard_errors": difference,
        "result": result,
        "reason": "",
    }


def _components(fit: Fit, means: np.ndarray, mirror: bool):
    """{quantity: (K,)} of the fit, sorted by mean, mirrored if that is nearer, and standard
    errors by the delta method; None where the parameters have no covariance."""
    assert fit.approximation is not None
    mixture = fit.approximation.mixture()
    if mixture is None or mixture.means.shape[1] != 1:
        raise InputError(
            "published components can be compared for Gaussian mixtures on the line only"
        )
    ours, slopes = jax.tree.map(np.asarray, _quantities(fit.approximation))
    signs = (1.0, -1.0) if mirror else (1.0,)
    distance = lambda sign: np.abs(np.sort(sign * ours["means"]) - means).sum()
    sign = min(signs, key=distance) if means.size else 1.0
    order = np.argsort(sign * ours["means"])
    # The gradient of a mirrored mean has the other sign, and its variance is the same.
    ours = {k: v[order] for k, v in (ours | {"means": sign * ours["means"]}).items()}
    if fit.status == Status.GIVEN:
        return ours, {k: np.zeros_like(v) for k, v in ours.items()}
    if fit.covariance is None:
        return ours, None
    variance = {k: np.einsum("kp,pq,kq->k", s, fit.covariance, s) for k, s in slopes.items()}
    return ours, {k: np.sqrt(np.maximum(v[order], 0)) for k, v in variance.items()}


@jax.jit
def _quantities(q: GuideApproximation) -> tuple[dict[str, Array], dict[str, Array]]:
    """{quantity: (K,)} of the components, and gradients (K, P) in the flat parameters."""
    flat, unravel = ravel_pytree(q.params)

    def quantities(flat):
        mixture = q.family.to_mixture(unravel(flat), q.target)
        assert mixture is not None
        return {
            "means": mixture.means[:, 0],
            "sds": jnp.sqrt(mixture.covariances[:, 0, 0]),
            "weights": mixture.weights,
        }

    return quantities(flat), jax.jacobian(quantities)(flat)


def check_names(entries: Sequence[Published], names: Sequence[str], metrics: Sequence[str]) -> None:
    """Refuse published figures of fits or metrics that the study does not have."""
    for entry in entries:
        if entry.fit not in names:
            raise InputError(
                f"published figures name the fit {entry.fit!r}, which is not compared; "
                f"{nearest(entry.fit, list(names))}"
            )
        for metric in entry.metrics:
            if metric not in metrics:
                raise InputError(
                    f"published figures of {entry.fit!r} name the metric {metric!r}; "
                    f"{nearest(metric, list(metrics))}"
                )
