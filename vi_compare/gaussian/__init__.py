"""Gaussians on the flat unconstrained vector: what they are and how they are found.

What q can be (`gaussians`, `low_rank`), the coordinates they give (`frames`), and three ways
to them: on the way to a mode (`pathfinder`, by `quasi_newton`), by natural gradients on fresh
draws (`natural_gradient`), from draws that come in mirrored pairs (`antithetic`).
"""
