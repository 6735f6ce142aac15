"""Published figures against ours: difference in standard errors, rounding included."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.flatten_util import ravel_pytree

from vi_compare import families, formatting
from vi_compare.approximation import GuideApproximation
from vi_compare.errors import InputError, nearest
from vi_compare.estimate import ALL, Estimate
from vi_compare.solvers import Fit
from vi_compare.target import Target
from vi_compare.values import check_text, listed
from vi_compare.verdict import Outcome, Status

# A number as papers print it; no NaN, no infinity, none of Python's own ways.
PRINTED = r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]{1,2})?"


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
        who, remedy = f"published figures of {self.fit!r}", "write them as printed, in quotes"
        check_text(self.fit, "published figures: the name of their fit")
        check_text(self.source, f"{who}: the source", empty=True)
        for what in ("weights", "means", "sds"):
            object.__setattr__(
                self, what, listed(getattr(self, what), str, f"{who}: {what}", remedy)
            )
        if not isinstance(self.metrics, Mapping):
            raise InputError(f"{who}: metrics must be {{metric: text}}, got {self.metrics!r}")
        for figure in itertools.chain(self.weights, self.means, self.sds, self.metrics.values()):
            if not isinstance(figure, str) or not re.fullmatch(PRINTED, figure.strip()):
                raise InputError(f"{who}: {figure!r} is no number as text; {remedy}")


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
    """
    row = partial(_row, entry, limit)
    rows = [row(name, text, scores[name][ALL]) for name, text in entry.metrics.items()]
    printed = {k: getattr(entry, k) for k in ("means", "sds", "weights") if getattr(entry, k)}
    if not printed or fit.approximation is None:
        return rows
    ours, errors = _components(fit, np.asarray(list(map(float, entry.means))), entry.mirror)
    for what, texts in printed.items():
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
    assert mixture is not None
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


def check_published(
    entries: Sequence[Published],
    guides: Mapping[str, Callable | None],
    target: Target,
    metrics: Sequence[str],
) -> None:
    """Refuse published figures of fits, metrics or components that the study does not have.

    Args:
        guides: {name of a fit: its guide, set up; None for draws made elsewhere}.
    """
    for entry in entries:
        if entry.fit not in guides:
            raise InputError(
                f"published figures name the fit {entry.fit!r}, which is not compared; "
                f"{nearest(entry.fit, list(guides))}"
            )
        _check_components(entry, guides[entry.fit], target)
        for metric in entry.metrics:
            if metric not in metrics:
                raise InputError(
                    f"published figures of {entry.fit!r} name the metric {metric!r}; "
                    f"{nearest(metric, list(metrics))}"
                )


def _check_components(entry: Published, guide: Callable | None, target: Target) -> None:
    """Components that are printed must be components of the fit, on the line."""
    printed = {k: len(v) for k in ("means", "sds", "weights") if (v := getattr(entry, k))}
    k = None if guide is None else _num_components(guide, target)
    if printed and (k is None or target.dim != 1):
        raise InputError(
            f"published figures of {entry.fit!r}: components can be compared for Gaussian "
            f"mixtures on the line only; leave out {formatting.listed(list(printed))}"
        )
    for what, n in printed.items():
        if n != k:
            raise InputError(
                f"published figures of {entry.fit!r}: {n} {what} are printed and the fit has {k} "
                f"components"
            )


def _num_components(guide: Callable, target: Target) -> int | None:
    """Of the Gaussian mixture that the guide is, or None where it is none."""

    def mixture(key: Array):
        return families.family(guide).to_mixture(
            families.first_parameters(guide, target, key), target
        )

    found = jax.eval_shape(mixture, jax.random.key(0))
    return None if found is None else int(found.weights.shape[0])
