"""How far the fit's mode weights are from the target's."""

import numpy as np

from vi_compare.evidence import ALL, About, Estimate, Evidence, Kind

ABOUT = About(
    name="mode distance",
    meaning=(
        "Jensen-Shannon distance of basin masses, 0 to 1; its floor is that of two target samples."
    ),
    kind=Kind.SMALLER,
    perfect=0.0,
    above_floor=True,
)


def measure(evidence: Evidence) -> dict[str, Estimate]:
    modes = evidence.modes
    if modes is None:
        return {ALL: Estimate.missing(evidence.modes_reason)}
    distance = _distance(modes.target, modes.fit)
    floor = _distance(modes.target, modes.floor)
    rng = np.random.default_rng(0)  # parametric bootstrap: the distance is no mean
    resample = lambda share, n: rng.multinomial(n, share / share.sum(), 200) / n
    worth = max(1, int(min(modes.target_n)))
    pairs = zip(resample(modes.target, worth), resample(modes.fit, modes.n), strict=True)
    copies = [_distance(p, q) for p, q in pairs]
    return {ALL: Estimate(distance, float(np.std(copies, ddof=1)), "1", modes.n, floor)}


def _distance(p: np.ndarray, q: np.ndarray) -> float:
    """√JS with logarithms to base 2, so that it ends at 1."""
    middle = (p + q) / 2

    def kl(a):
        held = a > 0
        return float(np.sum(a[held] * np.log2(a[held] / middle[held])))

    return float(np.sqrt(max(0.0, (kl(p) + kl(q)) / 2)))
