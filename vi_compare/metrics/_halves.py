"""Draws in two halves that know nothing of each other."""

from __future__ import annotations

import numpy as np


def first_half(n: int, chains: int) -> np.ndarray:
    """Which of n draws (n,) are in the first half of their chain: draws next to each other would
    not be independent."""
    length = n // max(1, chains)
    return np.arange(n) % length < length // 2
