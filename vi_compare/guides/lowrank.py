"""NumPyro's ``AutoLowRankMultivariateNormal``."""

from numpyro.infer.autoguide import AutoLowRankMultivariateNormal

from vi_compare.errors import InputError


def build(model, rank: int = 1) -> AutoLowRankMultivariateNormal:
    """One Gaussian, diagonal plus low rank: lowrank:3 (numpyro AutoLowRankMultivariateNormal)."""
    if rank < 1:
        raise InputError(f"lowrank:{rank} has no factor; give a positive rank")
    return AutoLowRankMultivariateNormal(model, rank=rank)
