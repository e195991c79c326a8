"""Steering: does a block, or a dimension, make any difference among these items?

A block changes a ranking by what its scores differ between items: its weight times the standard
deviation of its cosines. Where that is near 0 all items score alike, and the block steers nothing
at any usual weight. For a single dimension the same holds of its products.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from subspace.arrays import AnyFloats, Floats
from subspace.blocks import BlockLayout

# Below this a score hardly varies (the line drawn in the retrieval-weight experiment's paper).
LOW = 0.10
# Items that are enough to tell: pairs of them are compared, 2 million here.
STEERING_SAMPLE = 2000


@dataclass(frozen=True)
class Steering:
    """How much scores vary, by block and by dimension.

    Attributes:
        blocks: Standard deviation of the cosine between two items, by block.
        dimensions: For each dimension, the standard deviation of its values over items, relative
            to that of a dimension of its block if all varied alike; in layout order.
        items: Number of items that were looked at.
    """

    blocks: Mapping[str, float]
    dimensions: Floats
    items: int

    def low(self) -> list[str]:
        """Blocks whose scores vary less than `LOW`."""
        return [name for name, spread in self.blocks.items() if spread < LOW]

    def idle_dimensions(self, layout: BlockLayout) -> dict[str, int]:
        """By block, how many dimensions vary less than `LOW` of what an average one does."""
        return {
            name: int((values < LOW).sum())
            for name, values in layout.split(self.dimensions).items()
        }

    def warning(self) -> str:
        """A sentence on the blocks that can hardly steer; empty if all can."""
        low = self.low()
        if not low:
            return ""
        strong = max(self.blocks, key=self.blocks.__getitem__)
        said = [f"scores hardly vary among these items (below {LOW}) in: {', '.join(low)}"]
        factors = [
            self.blocks[strong] / self.blocks[name]
            for name in low
            if self.blocks[name] > 0 and name != strong
        ]
        if factors:
            least, most = f"{min(factors):.0f}", f"{max(factors):.0f}"
            times = least if least == most else f"{least} to {most}"
            said.append(
                f"next to {strong} such a block needs {times} times the weight, or weights in "
                "standard deviations (--standardize)"
            )
        still = [name for name in low if self.blocks[name] == 0]
        if still:
            said.append(
                f"{', '.join(still)}: the same for all, so it changes no ranking at any weight"
            )
        return "; ".join(said)


def measure_steering(vectors: AnyFloats, *, layout: BlockLayout) -> Steering:
    """Measures it on items.

    Args:
        vectors: Unit blocks (N, layout.dim); of more than `STEERING_SAMPLE`, that many evenly
            taken ones.
        layout: The blocks.
    """
    if len(vectors) > STEERING_SAMPLE:
        vectors = vectors[np.linspace(0, len(vectors) - 1, STEERING_SAMPLE).astype(np.int64)]
    sample: Floats = vectors.astype(np.float64)
    parts: dict[str, Floats] = layout.split(sample)  # type: ignore[assignment]
    return Steering(
        blocks={name: _spread_of_cosines(block) for name, block in parts.items()},
        dimensions=np.concatenate([_relative_spread(block) for block in parts.values()]),
        items=len(sample),
    )


def _spread_of_cosines(block: Floats) -> float:
    """Standard deviation of <a, b> over all pairs of different items (N, width)."""
    if len(block) < 3:
        return 0.0
    above = np.triu_indices(len(block), k=1)
    return float((block @ block.T)[above].std())


def _relative_spread(block: Floats) -> Floats:
    """Standard deviation of each dimension over the root mean square of all (width,)."""
    spread = block.std(axis=0) if len(block) else np.zeros(block.shape[1])
    typical = float(np.sqrt((spread**2).mean()))
    return np.asarray(spread / typical if typical > 0 else spread)
