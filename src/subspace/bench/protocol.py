"""Protocol: how an item is cut into pieces and stored as vectors."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from subspace.arrays import Vectors
from subspace.bench.late_interaction import MultiVectors, max_sim
from subspace.bench.readings import Reading
from subspace.bench.views import FitView
from subspace.blocks import BlockLayout
from subspace.model import Model
from subspace.retrieval.weights import Weights

LEVELS = ("document", "paragraph", "sentence")


@dataclass(frozen=True, eq=False)  # functions compare by identity
class VectorLevel:
    """One kind of vector of an item.

    Attributes:
        reading: Pieces of the item that are encoded.
        view: Part of the encoder's vectors that is kept.
        best: Number of the item's best matches that are averaged, 1 or more.
        weight: Weight of this level's score in the item's score.
    """

    reading: Reading
    view: FitView
    best: int = 1
    weight: float = 1.0


@dataclass(frozen=True, eq=False)
class Protocol:
    """One way to store items as vectors; an item's score is the weighted sum over its levels.

    Attributes:
        name: Name on the command line and in tables.
        family: Name shared by protocols that vary the same property.
        about: Description in tables: which pieces have a vector.
        levels: The kinds of vector.
        settings: Further values that the scores depend on, JSON-ready.
    """

    name: str
    family: str
    about: str
    levels: tuple[VectorLevel, ...]
    settings: Mapping[str, Any] = field(default_factory=dict)

    def score(self, queries: Sequence[MultiVectors], items: Sequence[MultiVectors]) -> Vectors:
        """Scores every item for every query (Q, N).

        Args:
            queries: Vectors of Q queries for each level.
            items: Vectors of N items for each level.
        """
        parts = zip(self.levels, queries, items, strict=True)
        scores = [lv.weight * max_sim(asked, kept, best=lv.best) for lv, asked, kept in parts]
        return np.asarray(sum(scores[1:], start=scores[0]), dtype=np.float32)


@dataclass(frozen=True, eq=False)
class Setting:
    """The inputs that protocols are made from.

    Attributes:
        model: Model with the blocks, their default weights and the scales of their scores.
        documents: Number of documents.
        weights: Weight of each block by name; the model's default weights if None.
        levels: Weight of each of `LEVELS` in the hierarchical protocol.
    """

    model: Model
    documents: int
    weights: Mapping[str, float] | None = None
    levels: Mapping[str, float] = field(default_factory=lambda: dict.fromkeys(LEVELS, 1 / 3))

    @property
    def layout(self) -> BlockLayout:
        """The model's blocks."""
        return self.model.layout

    @property
    def raw(self) -> slice:
        """Dimensions of the raw embedding: those of the encoder's last layer."""
        return self.model.fingerprint.last_layer

    @property
    def dim(self) -> int:
        """Number of dimensions of the raw embedding."""
        return int(self.raw.stop - self.raw.start)

    @property
    def block_weights(self) -> Mapping[str, float]:
        """The chosen weights, or the model's default weights."""
        return self.model.default_weights if self.weights is None else self.weights

    def scale(self, weights: Mapping[str, float]) -> dict[str, float]:
        """Multiplies weights by the scales of the blocks' scores, as a search does.

        Args:
            weights: Weight by block name; 0 for blocks that are left out.
        """
        table = Weights.make(layout=self.layout, blocks=weights).scaled(self.model.score_scales)
        return dict(zip(self.layout, table.relevance, strict=True))
