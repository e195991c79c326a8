"""Late interaction: several vectors per item, and how well a query's vectors match them.

An item scores `sum over the query's vectors of the largest inner product with one of the item's`
(MaxSim; Khattab and Zaharia 2020, ColBERT). With one vector per query this is the best chunk, with
one per item as well it is the cosine.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from sklearn.cluster import AgglomerativeClustering

from subspace.arrays import Ints, Vectors
from subspace.blocks import unit

# Rows of queries times all vectors of all items are in memory at once: about 250 MB of scores.
_SCORES = 1 << 26


@dataclass(frozen=True, eq=False)  # arrays do not compare to one truth
class Bags:
    """The vectors of several items, or queries, one after another.

    Attributes:
        vectors: (M, d).
        counts: How many of them belong to each item (N,), one at least.

    Raises:
        ValueError: An item has no vector, or the counts are not those of the vectors.
    """

    vectors: Vectors
    counts: Ints

    def __post_init__(self) -> None:
        """Checks the counts."""
        if (self.counts < 1).any() or self.counts.sum() != len(self.vectors):
            raise ValueError(f"counts {self.counts} do not fit {len(self.vectors)} vectors")

    @classmethod
    def join(cls, parts: Sequence[Vectors]) -> "Bags":
        """One item per part (n, d)."""
        counts = np.array([len(part) for part in parts], dtype=np.int64)
        return cls(np.concatenate(parts), counts)

    @classmethod
    def single(cls, vectors: Vectors) -> "Bags":
        """One vector per item."""
        return cls(vectors, np.ones(len(vectors), dtype=np.int64))

    @property
    def starts(self) -> Ints:
        """First vector of each item (N,)."""
        return np.cumsum(self.counts) - self.counts


def max_sim(queries: Bags, items: Bags, *, best: int = 1) -> Vectors:
    """Score of every item (columns) for every query (rows).

    Args:
        queries: Q of them.
        items: N of them.
        best: The mean of so many of an item's best matches counts, of all where it has fewer.

    Returns:
        (Q, N); sums over the vectors of a query.
    """
    matches = np.empty((len(queries.vectors), len(items.counts)), dtype=np.float32)
    rows = max(1, _SCORES // max(1, len(items.vectors)))
    for start in range(0, len(matches), rows):
        scores = queries.vectors[start : start + rows] @ items.vectors.T
        matches[start : start + rows] = _best(scores, items, best=best)
    if len(queries.counts) == len(queries.vectors):
        return matches
    return np.add.reduceat(matches, queries.starts, axis=0)


def pool_tokens(states: Vectors, *, factor: int) -> Vectors:
    """Shrinks one item's token states to every `factor`-th of their number.

    Tokens are clustered by Ward's method on unit vectors, and each cluster gives its mean, as a
    unit vector (Clavié, Chaffin and Adams 2024, arXiv:2409.14683).

    Args:
        states: Unit vectors (T, d).
        factor: How many tokens become one, on average.

    Returns:
        (max(1, T // factor), d).
    """
    count = max(1, len(states) // factor)
    if count == len(states):
        return states
    found = AgglomerativeClustering(n_clusters=count, linkage="ward").fit_predict(states)
    sums = np.zeros((count, states.shape[1]), dtype=np.float32)
    np.add.at(sums, found, states)
    return np.asarray(unit(sums), dtype=np.float32)


def _best(scores: Vectors, items: Bags, *, best: int) -> Vectors:
    if len(items.counts) == len(items.vectors):
        return scores
    if best == 1:
        return np.maximum.reduceat(scores, items.starts, axis=1)
    means = np.empty((len(scores), len(items.counts)), dtype=np.float32)
    for column, (start, count) in enumerate(zip(items.starts, items.counts, strict=True)):
        chunk = np.sort(scores[:, start : start + count], axis=1)
        means[:, column] = chunk[:, -best:].mean(axis=1)
    return means
