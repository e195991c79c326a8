"""LinearHead: a linear map from a block to the labels of its factor.

A head for numbers is a ridge regression, whose direction points towards higher labels; a head
for categories is a multinomial logistic regression. Both read the unit block that is named after
the factor or, if there is none, all blocks.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
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
        bias: Float32 (K,); None if the head orders texts, but does not predict their labels.
        classes: Names of the classes of the K outputs; None for numbers, where K is 1.
    """

    weight: Vectors
    bias: Vectors | None
    classes: tuple[str, ...] | None

    def __call__(self, block: Vectors) -> Sequence[str | float]:
        """Predicts the labels of unit blocks (N, width): names of classes, or numbers."""
        outputs = block @ self.weight.T + (0 if self.bias is None else self.bias)
        if self.classes is None:
            numbers: list[float] = outputs[:, 0].tolist()
            return numbers
        return [self.classes[code] for code in outputs.argmax(axis=1)]

    @property
    def directions(self) -> dict[str, Vectors]:
        """The directions (width,) along which texts can be ordered, by name.

        For numbers this is one direction toward higher labels, named "". For classes there is one
        toward each class and away from all others. Two classes also have one that is named "",
        from the first class to the second.
        """
        if self.classes is None:
            return {"": self.weight[0]}
        count, total = len(self.classes), self.weight.sum(axis=0)
        toward = (count * self.weight - total) / max(count - 1, 1)
        found = dict(zip(self.classes, toward, strict=True))
        return {"": toward[1], **found} if count == 2 else found


Heads = Mapping[str, LinearHead]


def check_heads(heads: Heads, *, layout: BlockLayout) -> None:
    """Raises unless every head fits what it reads and is finite.

    Raises:
        LayoutError: A head does not; names the first.
    """
    for factor, head in heads.items():
        outputs, width = (1 if head.classes is None else len(head.classes)), read_by(factor, layout)
        bias = np.zeros(outputs) if head.bias is None else head.bias
        if head.weight.shape != (outputs, width.stop - width.start) or bias.shape != (outputs,):
            raise LayoutError(
                f"the head of '{factor}' has shapes {head.weight.shape} and {bias.shape}, its "
                f"block and classes need ({outputs}, {width.stop - width.start}) and ({outputs},)"
            )
        if not (np.isfinite(head.weight).all() and np.isfinite(bias).all()):
            raise LayoutError(f"the head of '{factor}' holds NaN or infinity")


def read_by(factor: str, layout: BlockLayout) -> slice:
    """Returns the place of the dimensions that the head of a factor reads."""
    return layout.slice(factor) if factor in layout.names else slice(0, layout.dim)


def head_tensors(heads: Heads) -> Iterator[tuple[str, Vectors]]:
    """Yields each head's arrays with their names, `heads.FACTOR.weight` and `.bias`."""
    for factor, head in heads.items():
        yield f"heads.{factor}.weight", head.weight
        if head.bias is not None:
            yield f"heads.{factor}.bias", head.bias


def heads_from_tensors(
    tensors: Mapping[str, Vectors],
    *,
    classes: Mapping[str, Any],
    without_bias: Collection[str] = (),
) -> Heads:
    """Builds heads from named tensors; the inverse of `head_tensors`.

    Args:
        tensors: Arrays by name.
        classes: By factor, the names of its classes, or None for numbers.
        without_bias: Factors whose heads have no bias.

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
            bias=None if factor in without_bias else tensors[f"heads.{factor}.bias"],
            classes=None if names is None else tuple(names),
        )
    return heads
