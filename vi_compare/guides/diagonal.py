"""NumPyro's ``AutoDiagonalNormal``."""

from numpyro.infer.autoguide import AutoDiagonalNormal


def build(model) -> AutoDiagonalNormal:
    """Independent normals on the flat vector (numpyro AutoDiagonalNormal)."""
    return AutoDiagonalNormal(model)
