"""Protocol: one way to cut a text up and to keep it as vectors."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from subspace.arrays import Vectors
from subspace.bench.late_interaction import Bags, max_sim
from subspace.bench.readings import Reading
from subspace.bench.views import FitView
from subspace.model.projection import Projection

LEVELS = ("document", "paragraph", "sentence")


@dataclass(frozen=True, eq=False)  # functions do not compare by what they do
class Level:
    """One kind of vector that an item has.

    Attributes:
        reading: What of the item is encoded.
        view: What is kept of the encoder's vectors.
        best: How many of the item's best matches are averaged.
        weight: Of this level's score in the item's.
    """

    reading: Reading
    view: FitView
    best: int = 1
    weight: float = 1.0


@dataclass(frozen=True, eq=False)
class Protocol:
    """One way to keep items as vectors: an item scores the weighted sum of its levels' scores.

    Attributes:
        name: On the command line and in tables.
        family: Protocols that vary the same thing.
        about: What gets a vector, for people.
        levels: The kinds of vector.
        settings: What it depends on beside its name, JSON-ready.
    """

    name: str
    family: str
    about: str
    levels: tuple[Level, ...]
    settings: Mapping[str, Any] = field(default_factory=dict)

    def score(self, queries: Sequence[Bags], items: Sequence[Bags]) -> Vectors:
        """Score of every item (columns) for every query (rows).

        Args:
            queries: Of each level.
            items: Of each level.
        """
        parts = zip(self.levels, queries, items, strict=True)
        scores = [lv.weight * max_sim(asked, kept, best=lv.best) for lv, asked, kept in parts]
        return np.asarray(sum(scores[1:], start=scores[0]), dtype=np.float32)


@dataclass(frozen=True, eq=False)
class Setting:
    """What the protocols are made from.

    Attributes:
        projection: To the trained blocks.
        raw: The dimensions of the raw embedding, which are those of the last layer.
        documents: Number of documents.
        weights: Weight of each block by name; None for equal ones.
        levels: Weight of each of `LEVELS` in the hierarchical protocol.
    """

    projection: Projection
    raw: slice
    documents: int
    weights: Mapping[str, float] | None = None
    levels: Mapping[str, float] = field(default_factory=lambda: dict.fromkeys(LEVELS, 1 / 3))

    @property
    def dim(self) -> int:
        """Dimension of the raw embedding."""
        return len(range(self.projection.input_dim)[self.raw])

    @property
    def block_weights(self) -> Mapping[str, float]:
        """The chosen weights, or equal ones."""
        layout = self.projection.layout
        return self.weights or dict.fromkeys(layout, 1 / len(layout))
