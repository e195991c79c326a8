"""Fitting from records, in closed form and by gradient descent from there."""

from subspace.training.fit import fit

__all__ = ["fit"]
