"""Rényi's divergences by their own name: the same optima as Amari's of the same order."""

from __future__ import annotations

from vi_compare import catalogue
from vi_compare.divergences import Divergence


def build(reference, order: float = 0.5, particles: int = 128) -> Divergence:
    """Rényi's D_a(p‖q), Amari's A_a in other units; NumPyro's RenyiELBO(a) is renyi of 1 − a."""
    # D_a = log ∫ p^a q^(1−a) / (a − 1) rises with A_a; at 0 it is 0 for every q.
    if order == 0:
        raise ValueError(
            "D_0(p‖q) is 0 for every q; reverse-kl is what D_a/a tends to, "
            "and what NumPyro's RenyiELBO calls 1"
        )
    return catalogue.load("divergences", "alpha").build(reference, order, particles)
