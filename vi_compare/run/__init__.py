"""A study under way: labels become plans, plans become fits, fits become facts."""
