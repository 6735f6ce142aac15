"""NumPyro's ``AutoMultivariateNormal``."""

from numpyro.infer.autoguide import AutoMultivariateNormal


def build(model) -> AutoMultivariateNormal:
    """One Gaussian with full covariance (numpyro AutoMultivariateNormal)."""
    return AutoMultivariateNormal(model)
