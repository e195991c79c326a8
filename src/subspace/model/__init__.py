"""The fitted model and its checkpoints: loading, saving, sharing."""

from subspace.model.checkpoint import load
from subspace.model.document_sample import DocumentSample
from subspace.model.linear_heads import LinearHead
from subspace.model.model import Model
from subspace.model.projection import Projection, QuerySide

__all__ = ["DocumentSample", "LinearHead", "Model", "Projection", "QuerySide", "load"]
