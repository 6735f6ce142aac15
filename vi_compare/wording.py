"""Numbers as text: as many digits as their error allows."""

from __future__ import annotations

import math


def with_error(value: float, error: float | None) -> str:
    """``0.3518 ± 0.0010``: the error to two digits, the value to the same place."""
    if not error or not math.isfinite(error):
        return minus(f"{value:.4g}")
    places = max(0, 1 - math.floor(math.log10(error)))
    return minus(f"{value:.{places}f} ± {error:.{places}f}")


def percent(share: float, error: float | None) -> str:
    """A share as ``30.6 ± 0.3 %``."""
    return f"{with_error(100 * share, 100 * error if error else None)} %"


def minus(text: str) -> str:
    """The same text with a real minus sign."""
    return text.replace("-", "−")
