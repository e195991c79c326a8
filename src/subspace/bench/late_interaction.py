"""Late interaction: several vectors per item, scored by how well they match a query's vectors.

The score of an item sums, over the vectors of the query, the largest inner product with a vector
of the item (MaxSim; Khattab and Zaharia 2020, ColBERT). With one vector per query, the score is
that of the best chunk; with one vector per item as well, it is the cosine of unit vectors.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from sklearn.cluster import AgglomerativeClustering

from subspace.arrays import Ints, Vectors
from subspace.blocks import unit

# Number of scores in memory at once: 256 MiB in float32.
_SCORES = 1 << 26


@dataclass(frozen=True, eq=False)  # arrays compare element by element
class MultiVectors:
    """The vectors of several items, or of several queries, one after another.

    Attributes:
        vectors: All vectors (M, d).
        counts: Number of vectors of each item (N,), 1 or more; their sum is M.

    Raises:
        ValueError: An item has no vector, or the counts do not sum to M.
    """

    vectors: Vectors
    counts: Ints

    def __post_init__(self) -> None:
        """Raises unless the counts fit the vectors."""
        if (self.counts < 1).any() or self.counts.sum() != len(self.vectors):
            raise ValueError(f"counts {self.counts} do not fit {len(self.vectors)} vectors")

    @classmethod
    def join(cls, parts: Sequence[Vectors]) -> "MultiVectors":
        """Joins the vectors (n, d) of each item."""
        counts = np.array([len(part) for part in parts], dtype=np.int64)
        return cls(np.concatenate(parts), counts)

    @classmethod
    def single(cls, vectors: Vectors) -> "MultiVectors":
        """Makes one vector per item from an array (N, d)."""
        return cls(vectors, np.ones(len(vectors), dtype=np.int64))

    @property
    def starts(self) -> Ints:
        """Position of the first vector of each item (N,)."""
        return np.cumsum(self.counts) - self.counts


def max_sim(queries: MultiVectors, items: MultiVectors, *, best: int = 1) -> Vectors:
    """Scores every item for every query, summed over the vectors of the query.

    Args:
        queries: Vectors of Q queries.
        items: Vectors of N items.
        best: Number of an item's best matches that are averaged for each vector of a query, 1 or
            more; an item with fewer vectors averages all.

    Returns:
        Scores (Q, N).
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
    """Pools the token vectors of one item; divides their number by `factor`, rounded down.

    Clusters the tokens by Ward's method on unit vectors, and returns the mean of each cluster as a
    unit vector (Clavié, Chaffin and Adams 2024, arXiv:2409.14683).

    Args:
        states: Unit vectors (T, d).
        factor: Mean number of tokens per cluster, 1 or more.

    Returns:
        Unit vectors (max(1, T // factor), d).
    """
    count = max(1, len(states) // factor)
    if count == len(states):
        return states
    found = AgglomerativeClustering(n_clusters=count, linkage="ward").fit_predict(states)
    sums = np.zeros((count, states.shape[1]), dtype=np.float32)
    np.add.at(sums, found, states)
    return np.asarray(unit(sums), dtype=np.float32)


def _best(scores: Vectors, items: MultiVectors, *, best: int) -> Vectors:
    """Averages the best scores of each item: (q, M) to (q, N)."""
    if len(items.counts) == len(items.vectors):
        return scores
    if best == 1:
        return np.maximum.reduceat(scores, items.starts, axis=1)
    means = np.empty((len(scores), len(items.counts)), dtype=np.float32)
    for column, (start, count) in enumerate(zip(items.starts, items.counts, strict=True)):
        chunk = np.sort(scores[:, start : start + count], axis=1)
        means[:, column] = chunk[:, -best:].mean(axis=1)
    return means
