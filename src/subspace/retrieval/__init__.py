"""Search with a weight for recency, importance and relevance in every block."""

from subspace.retrieval.hits import Hit, Results
from subspace.retrieval.index import BlockIndex
from subspace.retrieval.presets import PRESETS
from subspace.retrieval.queries import Like
from subspace.retrieval.searcher import Searcher
from subspace.retrieval.usage_log import UsageLog, Use
from subspace.retrieval.weights import Weights

__all__ = [
    "PRESETS",
    "BlockIndex",
    "Hit",
    "Like",
    "Results",
    "Searcher",
    "UsageLog",
    "Use",
    "Weights",
]
