"""The two components of a mixture that are nearest to each other, and where else they could be.

Two components that have become the same pull the same way at every draw: no gradient parts them,
though one would do. A fit that ends there seems to have nothing left to gain to any search that
follows slopes, and only one that begins with the pair elsewhere finds what there is.
"""

from __future__ import annotations

from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np

from vi_compare.families import GaussianMixture


@dataclass(frozen=True)
class Pair:
    """Two components of a mixture, and the Gaussian with their mass, mean and covariance.

    Attributes:
        mixture: what they are of.
        places: their two indices.
        mass: both weights together.
        mean, factor: (d,) and lower triangular (d, d) of the Gaussian.
    """

    mixture: GaussianMixture
    places: list[int]
    mass: float
    mean: np.ndarray
    factor: np.ndarray

    def apart(self, direction: np.ndarray, share: float = 0.8) -> GaussianMixture:
        """One on either side of the mean, along `direction` (d,) in units of the Gaussian, and
        narrower along it by as much, so that mass, mean and covariance stay (the split move of
        Richardson and Green 1997, "On Bayesian analysis of mixtures with an unknown number of
        components").

        Args:
            share: distance of the new means from the old in standard deviations, below 1.
        """
        step = share * self.factor @ (direction / np.linalg.norm(direction))
        covariance = self.factor @ self.factor.T - np.outer(step, step)
        return self._with(np.stack([self.mean + step, self.mean - step]), covariance)

    def one_at(self, u: np.ndarray) -> GaussianMixture:
        """One stays for both, the other is at u (d,)."""
        return self._with(np.stack([self.mean, u]), self.factor @ self.factor.T)

    def around(self, rng: np.random.Generator, n: int, nearest: float) -> np.ndarray:
        """n points (n, d) between `nearest` and twice as many standard deviations away."""
        e = rng.normal(size=(n, len(self.mean)))
        radii = nearest * rng.uniform(1, 2, (n, 1))
        return self.mean + radii * e / np.linalg.norm(e, axis=1, keepdims=True) @ self.factor.T

    def _with(self, means: np.ndarray, covariance: np.ndarray) -> GaussianMixture:
        weights, every, covariances = (np.array(part) for part in self.mixture)
        weights[self.places] = self.mass / 2
        every[self.places], covariances[self.places] = means, covariance
        return GaussianMixture(*map(jnp.asarray, (weights, every, covariances)))


def nearest_pair(mixture: GaussianMixture) -> Pair:
    """Of at least two components.

    Raises:
        numpy.linalg.LinAlgError: where one has lost its width.
    """
    weights, means, covariances = (np.array(part, float) for part in mixture)
    places = _nearest(means, covariances)
    mass = weights[places].sum()
    inner = weights[places] / mass
    mean = inner @ means[places]
    off = means[places] - mean
    whole = np.einsum("k,kij->ij", inner, covariances[places] + off[:, :, None] * off[:, None, :])
    return Pair(mixture, places, float(mass), mean, np.linalg.cholesky(whole))


def _nearest(means: np.ndarray, covariances: np.ndarray) -> list[int]:
    """The two with the least symmetrised KL."""
    precisions = np.linalg.inv(covariances)
    off = means[:, None] - means[None]
    # Up to a factor and a constant the KL from i to j; both ways round the determinants go.
    far = np.einsum("ijm,jmn,ijn->ij", off, precisions, off)
    far += np.einsum("imn,jnm->ij", covariances, precisions)
    far = far + far.T
    np.fill_diagonal(far, np.inf)
    return [int(i) for i in np.unravel_index(np.argmin(far), far.shape)]
