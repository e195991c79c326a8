"""Search with a weight for recency, importance and relevance in every block."""

from subspace.retrieval.block_index import BlockIndex
from subspace.retrieval.engines import create_engine, open_engine
from subspace.retrieval.explanation import Explanation, explain
from subspace.retrieval.follow import Changes, follow_folder
from subspace.retrieval.hits import Hit, Results
from subspace.retrieval.index import Index
from subspace.retrieval.presets import PRESETS
from subspace.retrieval.queries import Like
from subspace.retrieval.search_options import SearchOptions
from subspace.retrieval.usage.bandit import WeightBandit
from subspace.retrieval.usage.decay import Decay
from subspace.retrieval.usage.factored_bandit import FactoredBandit
from subspace.retrieval.usage.usage_log import UsageLog, Use
from subspace.retrieval.weights import Weights

__all__ = [
    "PRESETS",
    "BlockIndex",
    "Changes",
    "Decay",
    "Explanation",
    "FactoredBandit",
    "Hit",
    "Index",
    "Like",
    "Results",
    "SearchOptions",
    "UsageLog",
    "Use",
    "WeightBandit",
    "Weights",
    "create_engine",
    "explain",
    "follow_folder",
    "open_engine",
]
