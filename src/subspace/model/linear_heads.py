"""LinearHead: a linear map from a block to the labels of its factor.

A head for numbers is a ridge regression, whose direction points towards higher labels; a head
for categories is a multinomial logistic regression. Both read unit blocks.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from subspace.arrays import Vectors
from subspace.blocks import BlockLayout
from subspace.errors import LayoutError


@dataclass(frozen=True, eq=False)  # == on arrays gives no single bool
class LinearHead:
    """A linear reading of one factor from its block.

    Attributes:
        weight: Float32 (K, width).
        bias: Float32 (K,).
        classes: Names of the classes of the K outputs; None for numbers, where K is 1.
    """

    weight: Vectors
    bias: Vectors
    classes: tuple[str, ...] | None

    def __call__(self, block: Vectors) -> Sequence[str | float]:
        """Predicts the labels of unit blocks (N, width): names of classes, or numbers."""
        outputs = block @ self.weight.T + self.bias
        if self.classes is None:
            numbers: list[float] = outputs[:, 0].tolist()
            return numbers
        return [self.classes[code] for code in outputs.argmax(axis=1)]


Heads = Mapping[str, LinearHead]


def check_heads(heads: Heads, *, layout: BlockLayout) -> None:
    """Raises unless every head fits the block of its factor and is finite.

    Raises:
        LayoutError: A head does not; names the first.
    """
    widths = layout.to_widths()
    for factor, head in heads.items():
        outputs = 1 if head.classes is None else len(head.classes)
        if head.weight.shape != (outputs, widths.get(factor)) or head.bias.shape != (outputs,):
            raise LayoutError(
                f"the head of '{factor}' has shapes {head.weight.shape} and {head.bias.shape}, its "
                f"block and classes need ({outputs}, {widths.get(factor)}) and ({outputs},)"
            )
        if not (np.isfinite(head.weight).all() and np.isfinite(head.bias).all()):
            raise LayoutError(f"the head of '{factor}' holds NaN or infinity")


def head_tensors(heads: Heads) -> Iterator[tuple[str, Vectors]]:
    """Yields each head's arrays with their names, `heads.FACTOR.weight` and `.bias`."""
    for factor, head in heads.items():
        yield f"heads.{factor}.weight", head.weight
        yield f"heads.{factor}.bias", head.bias


def heads_from_tensors(tensors: Mapping[str, Vectors], *, classes: Mapping[str, Any]) -> Heads:
    """Builds heads from named tensors; the inverse of `head_tensors`.

    Args:
        tensors: Arrays by name.
        classes: By factor, the names of its classes, or None for numbers.

    Raises:
        KeyError: A tensor is missing.
        TypeError: The classes of a factor are not texts.
    """
    heads = {}
    for factor, names in classes.items():
        if names is not None and not all(isinstance(name, str) for name in names):
            raise TypeError(f"the classes of '{factor}', which are no texts")
        heads[factor] = LinearHead(
            weight=tensors[f"heads.{factor}.weight"],
            bias=tensors[f"heads.{factor}.bias"],
            classes=None if names is None else tuple(names),
        )
    return heads
