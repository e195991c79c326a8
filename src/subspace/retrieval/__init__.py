"""Search with a weight per block."""

from subspace.retrieval.index import BlockIndex, Hit
from subspace.retrieval.searcher import Searcher
from subspace.retrieval.weights import BlockWeights

__all__ = ["BlockIndex", "BlockWeights", "Hit", "Searcher"]
