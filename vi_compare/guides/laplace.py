"""NumPyro's ``AutoLaplaceApproximation``."""

from numpyro.infer.autoguide import AutoLaplaceApproximation


def build(model) -> AutoLaplaceApproximation:
    """One Gaussian at a mode, by the curvature there (numpyro AutoLaplaceApproximation)."""
    return AutoLaplaceApproximation(model)
