"""Presets: named weights of recency, importance and relevance."""

from collections.abc import Mapping
from types import MappingProxyType

from subspace.errors import WeightsError

# (recency, importance, relevance) of the published retrieval-weight experiment; each sums to 1.
PRESETS: Mapping[str, tuple[float, float, float]] = MappingProxyType(
    {
        "pure_relevance": (0.05, 0.05, 0.90),
        "pure_recency": (0.85, 0.05, 0.10),
        "pure_importance": (0.05, 0.85, 0.10),
        "relevance_heavy": (0.15, 0.15, 0.70),
        "recency_heavy": (0.60, 0.15, 0.25),
        "importance_heavy": (0.15, 0.65, 0.20),
        "recency_relevance": (0.40, 0.10, 0.50),
        "importance_relevance": (0.10, 0.40, 0.50),
        "recency_importance": (0.40, 0.45, 0.15),
        "balanced": (0.33, 0.33, 0.34),
        "diversity_seeker": (0.45, 0.45, 0.10),
        "exploration": (0.25, 0.25, 0.50),
    }
)

# The name of relevance alone among the arms of a bandit; it is no preset.
RELEVANCE = "relevance"


def find_preset(name: str) -> tuple[float, float, float]:
    """Returns the weights of recency, importance and relevance of a preset.

    Raises:
        WeightsError: There is no preset of that name.
    """
    if name not in PRESETS:
        raise WeightsError(f"no preset '{name}'; the presets are {', '.join(PRESETS)}")
    return PRESETS[name]
