"""Which modes of the target a metric speaks of."""

# Smallest share of the target that a mode must hold to be counted: of a smaller one the draws
# that were assigned to basins are too few to tell it from a dropped one.
LEAST_MASS = 0.01
