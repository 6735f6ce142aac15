"""Maximum mean discrepancy: are two sets of draws one distribution, in all dimensions at once?"""

import numpy as np

from vi_compare.estimate import NO_MARGIN
from vi_compare.evidence import (
    ALL,
    NO_REFERENCE,
    About,
    Draws,
    Estimate,
    Evidence,
    MetricKind,
    effective,
)
from vi_compare.metrics._empirical import evenly

ABOUT = About(
    name="MMD²",
    meaning="MMD² = E k(x,x′) + E k(y,y′) − 2 E k(x,y), unbiased; k Gaussian on standardised u.",
    kind=MetricKind.SMALLER,
    perfect=0.0,
)


def measure(evidence: Evidence, most: int = 1000, for_bandwidth: int = 250) -> dict[str, Estimate]:
    """
    Args:
        most: draws of each side: their kernel matrices have the square of it.
        for_bandwidth: draws whose distances give the bandwidth.
    """
    test, q, floor = evidence.test, evidence.q, evidence.floor
    if test is None or floor is None:
        return {ALL: Estimate.missing(NO_REFERENCE)}
    x = _few(test, most)
    middle, scale = x.mean(axis=0), x.std(axis=0)
    scale[scale == 0] = 1.0
    x, y, z = (
        ((u - middle) / scale).astype(np.float32) for u in (x, _few(q, most), _few(floor, most))
    )
    # The median heuristic (Gretton et al. 2012).
    bandwidth = np.median(_squares(x[:: -(-len(x) // for_bandwidth)]))
    if not bandwidth > 0:
        return {ALL: Estimate.missing(NO_MARGIN)}
    within = _kernel(x, x, bandwidth)
    value, error = _discrepancy(
        within, _kernel(y, y, bandwidth), _kernel(x, y, bandwidth), (test.chains, q.chains)
    )
    again, _ = _discrepancy(
        within, _kernel(z, z, bandwidth), _kernel(x, z, bandwidth), (test.chains, floor.chains)
    )
    return {ALL: Estimate(value, error, "1", len(y), again)}


def _few(draws: Draws, most: int) -> np.ndarray:
    """(n, d)"""
    return np.asarray(draws.u)[evenly(draws, most)]


def _squares(x: np.ndarray) -> np.ndarray:
    """Squared distances between different rows of x."""
    return _between(x, x)[np.triu_indices(len(x), 1)]


def _between(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Squared distances (n, m)."""
    squares = x @ (np.float32(-2) * y.T)
    squares += np.einsum("ij,ij->i", x, x)[:, None]
    squares += np.einsum("ij,ij->i", y, y)
    return np.maximum(squares, 0, out=squares)


def _kernel(x: np.ndarray, y: np.ndarray, bandwidth: float) -> np.ndarray:
    """(n, m), without the diagonal where x is y: with it a perfect fit would not score 0."""
    kernel = _between(x, y)
    kernel /= np.float32(-2 * bandwidth)
    np.exp(kernel, out=kernel)
    if x is y:
        np.fill_diagonal(kernel, 0.0)
    return kernel


def _discrepancy(xx, yy, xy, chains: tuple[int, int]) -> tuple[float, float]:
    """MMD² and its standard error, from kernels without a diagonal (n, n), (m, m), (n, m).

    Hoeffding's decomposition of the U-statistic: what each draw contributes by itself, and
    what remains of pairs, which is all there is where p = q. The former is estimated with
    the noise of the latter in it twice.
    """
    n, m = xy.shape
    of_x = _sums(xx, 1) / (n - 1) - _sums(xy, 1) / m
    of_y = _sums(yy, 1) / (m - 1) - _sums(xy, 0) / n
    single = 4 * of_x.var() / effective(of_x, chains[0]) + 4 * of_y.var() / effective(
        of_y, chains[1]
    )
    pairs = 2 * _left(xx) / n**2 + 2 * _left(yy) / m**2 + 4 * _left(xy) / (n * m)
    error = np.sqrt(max(single - pairs, pairs))
    return float(of_x.mean() + of_y.mean()), float(error)


def _sums(kernel: np.ndarray, axis: int) -> np.ndarray:
    return kernel.sum(axis=axis, dtype=float)


def _left(kernel: np.ndarray) -> float:
    """Variance of k(x, y) that is neither of x nor of y alone."""
    flat = kernel.ravel()
    whole = float(flat @ flat) / flat.size - float(flat.mean(dtype=float)) ** 2
    parts = sum(float((_sums(kernel, a) / kernel.shape[a]).var()) for a in (0, 1))
    return max(0.0, whole - parts)
