"""Scoring: builds the query vector for an engine, and scores the candidates that it returns."""

import numpy as np

from subspace.arrays import Floats, Vectors
from subspace.blocks import BlockLayout
from subspace.data.records import Record
from subspace.retrieval.engines import Candidates, Priors
from subspace.retrieval.hits import Hit
from subspace.retrieval.keywords import KEYWORDS, KeywordScores
from subspace.retrieval.usage.history import History, item_priors
from subspace.retrieval.weights import PARTS, Part, Weights


class Scorer:
    """Scores by relevance alone; subclasses add recency and importance.

    Attributes:
        weights: One weight per part and block.
    """

    def __init__(self, weights: Weights) -> None:
        """Keeps the weights."""
        self.weights = weights

    def fold(self, queries: Vectors) -> Vectors:
        """Returns the vectors that the engine is searched with (Q, dim)."""
        return self.weights.fold(queries)

    def priors(self) -> Priors | None:
        """Returns the values that the engine adds to the inner products; None for none."""
        return None

    def history_parts(self, found: Candidates) -> tuple[Floats, Floats]:
        """Returns the contributions of recency and of importance, (items, blocks) each."""
        nothing = np.zeros((len(found.documents), len(self.weights.layout)))
        return nothing, nothing

    def hits(
        self,
        query: Vectors,
        found: Candidates,
        *,
        k: int,
        keywords: KeywordScores | None = None,
    ) -> tuple[Hit, ...]:
        """Returns the best `k` candidates by score; ties keep the order of `found`.

        Args:
            query: Unit blocks (dim,), without weights.
            found: Items that the engine found.
            k: Number of hits.
            keywords: What keywords add to the scores of the items, if they count.
        """
        relevance = _per_block(
            found.vectors, query * self.weights.per_dimension("relevance"), self.layout
        )
        table = np.stack([*self.history_parts(found), relevance])
        scores = _add_up(table)
        added: list[float | None] = [None] * len(found.documents)
        if keywords is not None:
            more = keywords.of([document.id for document in found.documents])
            scores, added = scores + more, more.tolist()
        order = np.argsort(-scores, kind="stable")[:k].tolist()
        return tuple(
            self._hit(found.documents[row], table[:, row], keywords=added[row]) for row in order
        )

    @property
    def layout(self) -> BlockLayout:
        """The blocks."""
        return self.weights.layout

    def _hit(self, document: Record, table: Floats, *, keywords: float | None) -> Hit:
        parts: dict[str, dict[Part, float]] = {
            block: dict(zip(PARTS, values, strict=True))
            for block, values in zip(self.layout, table.T.tolist(), strict=True)
        }
        if keywords is not None:
            parts[KEYWORDS] = {"recency": 0.0, "importance": 0.0, "relevance": keywords}
        return Hit(
            id=document.id,
            text=document.text,
            score=sum(value for of_block in parts.values() for value in of_block.values()),
            parts=parts,
            metadata=document.metadata,
        )


class BlockScorer(Scorer):
    """Adds recency and importance per block, as traces folded into the query."""

    def __init__(self, weights: Weights, history: History) -> None:
        """Keeps the weights, and reads the current recency and importance from the history."""
        super().__init__(weights)
        self._recency, self._importance = history.traces()

    def fold(self, queries: Vectors) -> Vectors:
        """Returns one vector per query with relevance, recency and importance (Q, dim)."""
        return self.weights.fold(queries, recency=self._recency, importance=self._importance)

    def history_parts(self, found: Candidates) -> tuple[Floats, Floats]:
        """Returns the weighted inner products with the two traces, (items, blocks) each."""
        per_dimension = self.weights.per_dimension
        return (
            _per_block(found.vectors, self._recency * per_dimension("recency"), self.layout),
            _per_block(found.vectors, self._importance * per_dimension("importance"), self.layout),
        )


class ItemScorer(Scorer):
    """Adds the recency and importance of the item itself to its score."""

    def __init__(self, weights: Weights, history: History) -> None:
        """Keeps the weights, and the history as it is at this moment."""
        super().__init__(weights)
        self._items = history.items

    def priors(self) -> Priors | None:
        """Returns the recency and importance of each item, weighted and summed over the blocks."""
        return item_priors(self._items, weights=self.weights)

    def history_parts(self, found: Candidates) -> tuple[Floats, Floats]:
        """Returns the weighted recency and importance of each item, (items, blocks) each."""
        recency, importance = self._items.of([d.id for d in found.documents])
        return (
            np.outer(recency, self.weights.recency),
            np.outer(importance, self.weights.importance),
        )


def _per_block(vectors: Vectors, folded: Vectors, layout: BlockLayout) -> Floats:
    """Computes inner products per block (items, blocks), in double precision."""
    products = vectors.astype(np.float64) * folded
    return np.add.reduceat(products, layout.starts, axis=1)


def _add_up(table: Floats) -> Floats:
    """Sums parts (3, items, blocks) to scores (items,).

    Adds in the same order as `Scorer._hit`, so that the scores are equal to the last bit.
    """
    rows = np.moveaxis(table, 0, 2).reshape(table.shape[1], 3 * table.shape[2]).tolist()
    return np.array([sum(row) for row in rows], dtype=np.float64)
