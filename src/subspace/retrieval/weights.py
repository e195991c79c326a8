"""BlockWeights: how much each block counts in one query."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from subspace.blocks import BlockLayout
from subspace.errors import WeightsError

# Vectors and weights meet in float32. The room left at both ends of its range is for sums over
# dimensions and blocks, and for the small entries of unit vectors.
_ROOM = 2.0**20
_LARGEST = float(np.finfo(np.float32).max) / _ROOM
_SMALLEST = float(np.finfo(np.float32).tiny) * _ROOM


@dataclass(frozen=True)
class BlockWeights:
    """One weight per block of a layout; blocks that are not named count 0.

    Attributes:
        layout: The blocks.
        values: One weight per block, 0 or between about 1e-32 and 3e32, not all 0.

    Raises:
        WeightsError: A weight is negative, NaN, infinite or out of that range, or all are 0.
    """

    layout: BlockLayout
    values: tuple[float, ...]

    def __post_init__(self) -> None:
        """Checks the values, naming the block."""
        if len(self.values) != len(self.layout):
            raise WeightsError(
                f"{len(self.values)} weights for the {len(self.layout)} blocks "
                f"{', '.join(self.layout)}"
            )
        for name, value in zip(self.layout, self.values, strict=True):
            if not 0 <= value < float("inf"):
                raise WeightsError(
                    f"the weight of block '{name}' must be finite and 0 or more, got {value}"
                )
            if value and not _SMALLEST <= value <= _LARGEST:
                raise WeightsError(
                    f"the weight of block '{name}' must be 0 or between {_SMALLEST:.0e} and "
                    f"{_LARGEST:.0e}, as searching is in float32; got {value}"
                )
        if not any(self.values):
            named = ", ".join(self.layout)
            raise WeightsError(f"at least one weight must be above 0; the blocks are {named}")

    @classmethod
    def equal(cls, layout: BlockLayout) -> "BlockWeights":
        """Every block counts the same: the score is the mean of the blocks' cosines."""
        return cls(layout=layout, values=(1 / len(layout),) * len(layout))

    @classmethod
    def from_mapping(cls, weights: Mapping[str, float], *, layout: BlockLayout) -> "BlockWeights":
        """Weights by block name; blocks left out count 0.

        Raises:
            WeightsError: A name is unknown, or a value is refused.
        """
        for name in weights:
            if name not in layout.names:
                raise WeightsError(f"no block '{name}'; the blocks are {', '.join(layout)}")
        values = tuple(_to_float(weights.get(name, 0.0), block=name) for name in layout)
        return cls(layout=layout, values=values)

    @classmethod
    def parse(cls, text: str, *, layout: BlockLayout) -> "BlockWeights":
        """Reads `topic=0.7,style=0.1`.

        Raises:
            WeightsError: The text is not of that form, names a block twice, or a value is
                refused.
        """
        weights: dict[str, float] = {}
        for part in text.split(","):
            name, equals, value = (piece.strip() for piece in part.partition("="))
            try:
                number = float(value)
            except ValueError:
                number = None
            if not equals or number is None:
                raise WeightsError(
                    f"weights must read like topic=0.7,style=0.1; cannot read {part.strip()!r}"
                )
            if name in weights:
                raise WeightsError(f"block '{name}' has two weights")
            weights[name] = number
        return cls.from_mapping(weights, layout=layout)

    def as_dict(self) -> dict[str, float]:
        """Weight by block name."""
        return dict(zip(self.layout, self.values, strict=True))

    def fold(self, query: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Multiplies each block of `query` (..., dim) by its weight.

        The inner product of the result with a document is the weighted score, so that any
        inner-product index can be searched with it and nothing has to be built anew.
        """
        return query * np.repeat(np.array(self.values, dtype=np.float32), self.layout.widths)


def _to_float(value: Any, *, block: str) -> float:
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError) as error:
        raise WeightsError(
            f"the weight of block '{block}' must be a number, got {value!r:.60}"
        ) from error
