"""Regions around a target's modes, each with the frame of a Gaussian, where chains stay.

Chains do not cross between far modes, so how many of them are in each says where they began and
nothing of the target. Here the space is cut into regions, each around one mode: a place belongs
to the Gaussian that gives it the highest density. A chain stays in its region and samples the
target there; how much of the target each region holds is found by bridge sampling. Any cut will
do: where it goes through the mass of the target the numbers are as right, and take longer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from vi_compare.estimate import Estimate
from vi_compare.evidence import Draws
from vi_compare.gaussian.frames import Frame
from vi_compare.randomness import generator
from vi_compare.reference.log_z import bridge, student
from vi_compare.target import Target


@partial(
    jax.tree_util.register_dataclass,
    data_fields=["means", "trils", "inverses", "log_dets"],
    meta_fields=[],
)
@dataclass(frozen=True)
class Partition:
    """Regions of the space of u.

    Attributes:
        means: (K, d).
        trils: Cholesky factors (K, d, d) of the covariances.
        inverses: of the factors, (K, d, d).
        log_dets: log determinants (K,) of the factors; ∞ for a region that has been given up.
    """

    means: Array
    trils: Array
    inverses: Array
    log_dets: Array

    @classmethod
    def of(cls, frames: Sequence[Frame]) -> Partition:
        means = np.stack([frame.mean for frame in frames])
        trils = np.stack([frame.tril for frame in frames])
        log_dets = np.log(np.diagonal(trils, axis1=1, axis2=2)).sum(axis=1)
        found = (means, trils, np.linalg.inv(trils), log_dets)
        return cls(*(jnp.asarray(a, jnp.result_type(float)) for a in found))

    def __len__(self) -> int:
        return self.means.shape[0]

    @property
    def frames(self) -> list[Frame]:
        means, trils = np.asarray(self.means, float), np.asarray(self.trils, float)
        return [Frame(mean, tril) for mean, tril in zip(means, trils, strict=True)]

    def region_of(self, u: Array) -> Array:
        """The region (n,) of each of u (n, d)."""
        if len(self) == 1:
            return jnp.zeros(len(u), int)
        apart = u[None] - self.means[:, None]
        v = jnp.einsum("kij,knj->kni", self.inverses, apart)
        log_q = -0.5 * jnp.sum(v**2, axis=2) - self.log_dets[:, None]
        return jnp.argmax(log_q, axis=0)

    def into(self, u: Array, region: Array) -> Array:
        """Whiten u (n, d) in the frame of its region (n,)."""
        return self._times(self.inverses, u - self.means[region], region)

    def out_of(self, v: Array, region: Array) -> Array:
        """Undo `into`."""
        return self.means[region] + self._times(self.trils, v, region)

    def pulled_back(self, slope: Array, region: Array) -> Array:
        """A gradient over u as one over v; both (n, d)."""
        return self._times(self.trils.swapaxes(1, 2), slope, region)

    def _times(self, matrices: Array, x: Array, region: Array) -> Array:
        """matrices[region] x, row by row, without a matrix for each row."""
        each = jnp.einsum("kij,nj->nki", matrices, x)
        return jnp.take_along_axis(each, region[:, None, None], axis=1)[:, 0]


def log_masses(
    target: Target, partition: Partition, draws: Sequence[Draws], keys: Sequence[Array], n: int
) -> list[Estimate]:
    """log of what each region holds of p̃, in nats.

    By bridge sampling between draws of the target in the region, and a Student t with their
    moments, of which what falls into the region counts. The t is fitted to the first half of
    each chain and bridged to from the second (Meng and Wong 1996; see `log_z`).

    Args:
        draws: of the target in each region, as chains.
        keys: one for each.
        n: draws of each Student t.
    """
    return [
        _log_mass(target, partition, k, own, key, n)
        for k, (own, key) in enumerate(zip(draws, keys, strict=True))
    ]


def _log_mass(
    target: Target, partition: Partition, k: int, draws: Draws, key: Array, n: int
) -> Estimate:
    rows = np.asarray(draws.u).reshape(draws.chains, -1, target.dim)
    half = rows.shape[1] // 2
    fitted, rest = rows[:, :half].reshape(-1, target.dim), rows[:, half:].reshape(-1, target.dim)
    if len(fitted) <= target.dim:
        return Estimate.missing("too few draws in the region", "nats")
    try:
        q = student(fitted)
    except np.linalg.LinAlgError:
        return Estimate.missing("the draws in the region lie in a subspace", "nats")
    own = q.sample(generator(key), n)
    own = own[np.asarray(partition.region_of(jnp.asarray(own))) == k]
    share = len(own) / n
    if share < 0.05:
        return Estimate.missing("a Student t with the region's moments lies outside it", "nats")
    at_own = np.asarray(target.complete(jnp.asarray(own)).log_p) - q.log_prob(own)
    log_p = np.asarray(draws.log_p).reshape(draws.chains, -1)[:, half:].reshape(-1)
    found = bridge(log_p - q.log_prob(rest), at_own, draws.chains)
    if found.value is None:
        return found
    error = np.hypot(found.standard_error or 0.0, np.sqrt((1 - share) / (share * n)))
    return Estimate(found.value + float(np.log(share)), float(error), "nats", n)


def shares(masses: Sequence[Estimate]) -> tuple[np.ndarray, np.ndarray]:
    """Shares (K,) of the regions, and their standard errors, from log masses; one that is not known
    counts as nothing, and all as the same where none is known."""
    log_z = np.array([-np.inf if e.value is None else e.value for e in masses])
    errors = np.array([e.standard_error or 0.0 for e in masses])
    if not np.isfinite(log_z).any():
        return np.full(len(log_z), 1 / len(log_z)), errors
    w = np.exp(log_z - log_z.max())
    w /= w.sum()
    # ∂ log w_k/∂ log z_j is 1 − w_k for j = k, and −w_j for others.
    turned = np.eye(len(w)) - w
    return w, w * np.sqrt((turned**2) @ errors**2)
