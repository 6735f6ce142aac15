"""Which variational approximation of a NumPyro model can be trusted, for what, and why."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    __version__: str
    from vi_compare.comparison import Comparison
    from vi_compare.divergences._f_divergence import FDivergence
    from vi_compare.divergences.alpha import AmariAlpha
    from vi_compare.divergences.cubo import CUBO
    from vi_compare.divergences.fisher import Fisher
    from vi_compare.divergences.forward_kl import ForwardKL
    from vi_compare.divergences.iwelbo import IWELBO
    from vi_compare.divergences.log_variance import LogVariance
    from vi_compare.divergences.reverse_kl import ReverseKL
    from vi_compare.divergences.score_climbing import ScoreClimbing
    from vi_compare.divergences.wake import Wake
    from vi_compare.guides.coupling import AutoCoupling
    from vi_compare.guides.mixture import AutoGaussianMixture
    from vi_compare.guides.spline import AutoSpline
    from vi_compare.guides.student import AutoStudentMixture
    from vi_compare.objects import compare
    from vi_compare.run.plans import Given
    from vi_compare.run.published import Published
    from vi_compare.settings import Settings
    from vi_compare.study import Study
    from vi_compare.target import Target

_HOMES = {
    "AmariAlpha": "divergences.alpha",
    "AutoCoupling": "guides.coupling",
    "AutoGaussianMixture": "guides.mixture",
    "AutoSpline": "guides.spline",
    "AutoStudentMixture": "guides.student",
    "CUBO": "divergences.cubo",
    "Comparison": "report",  # which adds its advice to what a notebook shows
    "FDivergence": "divergences._f_divergence",
    "Fisher": "divergences.fisher",
    "ForwardKL": "divergences.forward_kl",
    "Given": "run.plans",
    "IWELBO": "divergences.iwelbo",
    "LogVariance": "divergences.log_variance",
    "Published": "run.published",
    "ReverseKL": "divergences.reverse_kl",
    "ScoreClimbing": "divergences.score_climbing",
    "Settings": "settings",
    "Study": "study",
    "Target": "target",
    "Wake": "divergences.wake",
    "compare": "objects",
}

__all__ = [
    "CUBO",
    "IWELBO",
    "AmariAlpha",
    "AutoCoupling",
    "AutoGaussianMixture",
    "AutoSpline",
    "AutoStudentMixture",
    "Comparison",
    "FDivergence",
    "Fisher",
    "ForwardKL",
    "Given",
    "LogVariance",
    "Published",
    "ReverseKL",
    "ScoreClimbing",
    "Settings",
    "Study",
    "Target",
    "Wake",
    "compare",
]


def _without_docstrings() -> None:
    """ArviZ adds to docstrings of its own, and `python -OO` has stripped them."""
    from arviz_stats.base import stats_utils

    stats_utils.update_docstring = lambda *_: None


if sys.flags.optimize > 1:
    _without_docstrings()


def __getattr__(name: str) -> Any:
    # Imported on first use: `vi-compare --help` must not wait for JAX.
    if name == "__version__":
        from importlib.metadata import version

        return version("vi-compare")
    if name not in _HOMES:
        raise AttributeError(f"module 'vi_compare' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"vi_compare.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
