"""NumPyro's ``AutoNormal``."""

from numpyro.infer.autoguide import AutoNormal


def build(model) -> AutoNormal:
    """Independent normals, site by site (numpyro AutoNormal)."""
    return AutoNormal(model)
