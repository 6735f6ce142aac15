"""Which variational approximation of a NumPyro model can be trusted, for what, and why."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vi_compare.comparison import Comparison
    from vi_compare.divergences.forward_kl import ForwardKL
    from vi_compare.divergences.reverse_kl import ReverseKL
    from vi_compare.fits import Given
    from vi_compare.guides.mixture import AutoGaussianMixture
    from vi_compare.guides.student import AutoStudentMixture
    from vi_compare.published import Published
    from vi_compare.settings import Settings
    from vi_compare.study import Study
    from vi_compare.target import Target

_HOMES = {
    "AutoGaussianMixture": "guides.mixture",
    "AutoStudentMixture": "guides.student",
    "Comparison": "comparison",
    "ForwardKL": "divergences.forward_kl",
    "Given": "fits",
    "Published": "published",
    "ReverseKL": "divergences.reverse_kl",
    "Settings": "settings",
    "Study": "study",
    "Target": "target",
}

__all__ = [
    "AutoGaussianMixture",
    "AutoStudentMixture",
    "Comparison",
    "ForwardKL",
    "Given",
    "Published",
    "ReverseKL",
    "Settings",
    "Study",
    "Target",
]


def __getattr__(name: str) -> Any:
    # Imported on first use: `vi-compare --help` must not wait for JAX.
    if name not in _HOMES:
        raise AttributeError(f"module 'vi_compare' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"vi_compare.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
