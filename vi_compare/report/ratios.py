"""log p − log q as the saved draws have it: what histograms are made from."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vi_compare.report.view import FitView, View


@dataclass(frozen=True)
class Ratios:
    """log p̃ − log q in nats, p̃ as the model gives it.

    Attributes:
        under_p: (n,) at draws of the target, or None.
        under_q: (m,) at draws of the fit, or None.
    """

    under_p: np.ndarray | None
    under_q: np.ndarray | None

    @classmethod
    def of(cls, view: View, fit: FitView) -> Ratios:
        return cls(
            _difference(view.at_reference("log_p"), fit.array("at_reference", "log_q")),
            _difference(fit.array("sample_stats", "log_p"), fit.array("sample_stats", "log_q")),
        )


def _difference(log_p: np.ndarray | None, log_q: np.ndarray | None) -> np.ndarray | None:
    # Both are thinned alike; where they are not, no ratio can be formed.
    return None if log_p is None or log_q is None or log_p.size != log_q.size else log_p - log_q
