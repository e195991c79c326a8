"""Projection: the learned linear map from one embedding to named blocks."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from subspace.blocks import BlockLayout, unit_blocks
from subspace.errors import LayoutError


@dataclass(frozen=True, eq=False)  # arrays do not compare to one truth
class Projection:
    """z = W (x - mu), every block scaled to unit length.

    Attributes:
        weight: W, float32 (layout.dim, D), its rows grouped by block.
        mean: mu, float32 (D,): the mean of the training embeddings.
        layout: The blocks of the output.

    Raises:
        LayoutError: Shapes do not fit each other, or a value is not finite.
    """

    weight: npt.NDArray[np.float32]
    mean: npt.NDArray[np.float32]
    layout: BlockLayout

    def __post_init__(self) -> None:
        """Checks shapes and values once."""
        if self.weight.ndim != 2 or self.weight.shape[0] != self.layout.dim:
            raise LayoutError(
                f"the projection has {self.weight.shape[0]} rows, the layout needs "
                f"{self.layout.dim}; change the blocks' widths"
            )
        if self.mean.shape != (self.weight.shape[1],):
            raise LayoutError(
                f"the mean has shape {self.mean.shape}, the projection takes "
                f"{self.weight.shape[1]} dimensions"
            )
        if not (np.isfinite(self.weight).all() and np.isfinite(self.mean).all()):
            raise LayoutError("the projection holds NaN or infinity")

    @property
    def input_dim(self) -> int:
        """Dimension D of the embeddings it takes."""
        return int(self.weight.shape[1])

    def __call__(self, x: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Projects embeddings (..., D) to blocks (..., layout.dim), each block of unit length.

        Raises:
            LayoutError: The embeddings have another dimension, or are not finite.
        """
        if x.shape[-1] != self.input_dim:
            raise LayoutError(
                f"embeddings have {x.shape[-1]} dimensions, the projection takes {self.input_dim}"
            )
        with np.errstate(all="ignore"):
            z = (x - self.mean) @ self.weight.T
            # Scaling to unit length would make zeros of it, which look sound.
            broken = np.flatnonzero(~np.isfinite(z).all(axis=-1))
        if len(broken):
            raise LayoutError(
                f"{len(broken)} of the embeddings hold NaN or infinity, or are too large, the "
                f"first at position {broken[0]}"
            )
        return unit_blocks(z, layout=self.layout).astype(np.float32, copy=False)
