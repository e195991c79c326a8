"""ClassNearness: adds classes that were learned from a few labels to the similarity in a block.

With p(q) the probabilities of the classes for a query q, and m their mean among the texts of the
corpus, a query becomes

    q' = a q + b sum_k (p_k(q) - m_k) w_k

so that <q', d> is the cosine and, beside it, how much d has of the classes of q. Documents stay as
they are.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from subspace.arrays import AnyFloats, Floats, Vectors
from subspace.errors import LayoutError


@dataclass(frozen=True, eq=False)  # == on arrays gives no single bool
class ClassNearness:
    """The change of the queries of one block.

    Attributes:
        weight: Directions w of the classes, float32 (K, width).
        bias: Float32 (K,); p(q) is the softmax of `sharpness * (weight @ q) + bias`.
        mean: Mean probabilities m, float32 (K,).
        sharpness: See `bias`.
        cosine: Factor a of the query itself.
        classes: Factor b of the classes.
    """

    weight: Vectors
    bias: Vectors
    mean: Vectors
    sharpness: float
    cosine: float
    classes: float

    def __post_init__(self) -> None:
        """Checks shapes and values."""
        count = len(self.weight)
        if self.weight.ndim != 2 or self.bias.shape != (count,) or self.mean.shape != (count,):
            raise LayoutError("the directions of the classes do not fit their bias and mean")
        numbers = np.array([self.sharpness, self.cosine, self.classes])
        if not all(
            np.isfinite(part).all() for part in (self.weight, self.bias, self.mean, numbers)
        ):
            raise LayoutError("the classes of an adapted block hold NaN or infinity")

    def __call__(self, queries: Vectors) -> Vectors:
        """Changes queries (N, width); a query of zeros, which leaves the block out, stays."""
        chances = softmax(self.sharpness * (queries @ self.weight.T) + self.bias)
        added = self.classes * ((chances - self.mean) @ self.weight)
        asked = queries.any(axis=1, keepdims=True)
        return np.asarray(np.where(asked, self.cosine * queries + added, 0), dtype=np.float32)

    def tensors(self, block: str) -> Iterator[tuple[str, Vectors]]:
        """Yields the arrays with their names."""
        for name in ("weight", "bias", "mean"):
            yield f"nearness.{block}.{name}", getattr(self, name)

    def numbers(self) -> dict[str, float]:
        """Returns the other attributes, JSON-ready."""
        return {name: getattr(self, name) for name in ("sharpness", "cosine", "classes")}

    @classmethod
    def from_tensors(
        cls, tensors: Mapping[str, Vectors], *, block: str, numbers: Mapping[str, Any]
    ) -> Self:
        """Builds what `tensors` and `numbers` gave.

        Raises:
            KeyError: A tensor or a number is missing.
            LayoutError: Shapes do not fit each other, or a value is not finite.
        """
        return cls(
            weight=tensors[f"nearness.{block}.weight"],
            bias=tensors[f"nearness.{block}.bias"],
            mean=tensors[f"nearness.{block}.mean"],
            sharpness=float(numbers["sharpness"]),
            cosine=float(numbers["cosine"]),
            classes=float(numbers["classes"]),
        )


def softmax(scores: AnyFloats) -> Floats:
    """Returns probabilities (N, K) from scores (N, K)."""
    powers = np.exp(scores - scores.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True), dtype=np.float64)


def nearness_tensors(nearness: Mapping[str, ClassNearness]) -> Iterator[tuple[str, Vectors]]:
    """Yields the arrays of all blocks with their names."""
    for block, near in nearness.items():
        yield from near.tensors(block)
