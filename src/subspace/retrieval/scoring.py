"""Scoring: what an engine is asked for, and the parts of the score of what it finds."""

import numpy as np

from subspace.arrays import Floats, Vectors
from subspace.blocks import BlockLayout
from subspace.data.records import Record
from subspace.retrieval.engines import Candidates, Priors
from subspace.retrieval.hits import Hit
from subspace.retrieval.usage.history import History
from subspace.retrieval.weights import PARTS, Weights


class Scorer:
    """Relevance alone: what is sent to the engine, and what is made of what it finds.

    Attributes:
        weights: What counts how much.
    """

    def __init__(self, weights: Weights) -> None:
        """Scores by `weights`."""
        self.weights = weights

    def fold(self, queries: Vectors) -> Vectors:
        """What the engine is searched with (Q, dim)."""
        return self.weights.fold(queries)

    def priors(self) -> Priors | None:
        """What the engine adds to the scores of items."""
        return None

    def history_parts(self, found: Candidates) -> tuple[Floats, Floats]:
        """What recency and importance add, (items, blocks) each."""
        nothing = np.zeros((len(found.documents), len(self.weights.layout)))
        return nothing, nothing

    def hits(self, query: Vectors, found: Candidates, *, k: int) -> tuple[Hit, ...]:
        """The best `k`, by the sum of the parts that they show; ties as found."""
        relevance = _per_block(
            found.vectors, query * self.weights.per_dimension("relevance"), self.layout
        )
        table = np.stack([*self.history_parts(found), relevance])
        order = np.argsort(-_add_up(table), kind="stable")[:k].tolist()
        return tuple(self._hit(found.documents[row], table[:, row]) for row in order)

    @property
    def layout(self) -> BlockLayout:
        """The blocks."""
        return self.weights.layout

    def _hit(self, document: Record, table: Floats) -> Hit:
        parts = {
            block: dict(zip(PARTS, values, strict=True))
            for block, values in zip(self.layout, table.T.tolist(), strict=True)
        }
        return Hit(
            id=document.id,
            text=document.text,
            score=sum(value for of_block in parts.values() for value in of_block.values()),
            parts=parts,
            metadata=document.metadata,
        )


class BlockScorer(Scorer):
    """Recency and importance as traces, folded into the query."""

    def __init__(self, weights: Weights, history: History) -> None:
        """Scores by `weights` and what was used, as the history has it now."""
        super().__init__(weights)
        self._recency, self._importance = history.recency, history.importance

    def fold(self, queries: Vectors) -> Vectors:
        """Relevance, recency and importance in one vector per query."""
        return self.weights.fold(queries, recency=self._recency, importance=self._importance)

    def history_parts(self, found: Candidates) -> tuple[Floats, Floats]:
        """Inner products with the traces."""
        per_dimension = self.weights.per_dimension
        return (
            _per_block(found.vectors, self._recency * per_dimension("recency"), self.layout),
            _per_block(found.vectors, self._importance * per_dimension("importance"), self.layout),
        )


class ItemScorer(Scorer):
    """Recency and importance of each item by itself, added to its score."""

    def __init__(self, weights: Weights, history: History) -> None:
        """Scores by `weights` and what was used, as the history has it now."""
        super().__init__(weights)
        self._history = history

    def priors(self) -> Priors | None:
        """The items' own values, over all blocks."""
        return self._history.priors(self.weights)

    def history_parts(self, found: Candidates) -> tuple[Floats, Floats]:
        """The items' own values, in every block."""
        recency, importance = self._history.item_values([d.id for d in found.documents])
        return (
            np.outer(recency, self.weights.recency),
            np.outer(importance, self.weights.importance),
        )


def _per_block(vectors: Vectors, folded: Vectors, layout: BlockLayout) -> Floats:
    """Inner products block by block (items, blocks), in double precision."""
    products = vectors.astype(np.float64) * folded
    return np.add.reduceat(products, layout.starts, axis=1)


def _add_up(table: Floats) -> Floats:
    """Scores (items,) of parts (3, items, blocks), added as a hit adds them, to the last digit."""
    rows = np.moveaxis(table, 0, 2).reshape(table.shape[1], 3 * table.shape[2]).tolist()
    return np.array([sum(row) for row in rows], dtype=np.float64)
