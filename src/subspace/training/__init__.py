"""Fits models on labelled records: in closed form, or by gradient descent from the closed form."""

from subspace.training.fit import fit

__all__ = ["fit"]
