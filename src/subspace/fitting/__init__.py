"""Fitting in closed form on labelled embeddings: moments, scatter matrices and the solver."""

from subspace.fitting.adapt import adapt
from subspace.fitting.block_spec import DEFAULT_BLOCKS, DEFAULT_LAYERS, BlockSpec
from subspace.fitting.recipe import Recipe
from subspace.fitting.weak.weak_supervision import WeakSupervision

__all__ = ["DEFAULT_BLOCKS", "DEFAULT_LAYERS", "BlockSpec", "Recipe", "WeakSupervision", "adapt"]
