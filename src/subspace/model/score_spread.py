"""ScoreSpread: how much the scores of a block differ between items.

The influence of a block on a ranking is its weight times the standard deviation of its cosines.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from subspace.arrays import AnyFloats
from subspace.blocks import BlockLayout

# Maximum number of items to measure; all their pairs are compared, 2 million here.
SPREAD_SAMPLE = 2000


@dataclass(frozen=True)
class ScoreSpread:
    """How much the scores of each block vary.

    Attributes:
        blocks: Standard deviation of the cosine between two items, by block.
        items: Number of items that were measured.
    """

    blocks: Mapping[str, float]
    items: int


def measure_score_spread(vectors: AnyFloats, *, layout: BlockLayout) -> ScoreSpread:
    """Measures how much each block's scores vary between items.

    Args:
        vectors: Unit blocks (N, layout.dim); if there are more than `SPREAD_SAMPLE` rows, only
            `SPREAD_SAMPLE` evenly spaced ones are used.
        layout: The blocks.
    """
    if len(vectors) > SPREAD_SAMPLE:
        vectors = vectors[np.linspace(0, len(vectors) - 1, SPREAD_SAMPLE).astype(np.int64)]
    parts = layout.split(np.asarray(vectors, dtype=np.float64))
    return ScoreSpread(
        blocks={name: _spread_of_cosines(block) for name, block in parts.items()},
        items=len(vectors),
    )


def _spread_of_cosines(block: AnyFloats) -> float:
    """Computes the standard deviation of <a, b> over all pairs of different items (N, width)."""
    if len(block) < 3:
        return 0.0
    above = np.triu_indices(len(block), k=1)
    return float((block @ block.T)[above].std())
