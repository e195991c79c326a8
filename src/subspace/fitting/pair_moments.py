"""Statistics of texts that belong together: queries with what answers them, halves, groups.

Shapes: D is the embedding dimension; every matrix is (D, D).
"""

from dataclasses import dataclass

import numpy as np

from subspace.arrays import Floats, Ints, Vectors
from subspace.errors import ConfigError

# Rows per step: at 1,024 dimensions 32 MiB in float64.
_CHUNK = 4096


@dataclass(frozen=True, eq=False)  # arrays do not compare to one truth
class Side:
    """The texts of one side, queries or documents.

    Attributes:
        count: How many.
        mean: Mean embedding (D,).
        covariance: Their covariance.
    """

    count: int
    mean: Floats
    covariance: Floats


@dataclass(frozen=True, eq=False)
class PairStatistics:
    """First and second moments of a set of queries and documents and of its pairs.

    Attributes:
        queries: Moments of the queries.
        documents: Moments of the documents.
        within: Mean over pairs of (q - d)(q - d)' / 2, each side minus its mean.
        cross: Sum over pairs of q d', over the number of queries, each side minus its mean.
    """

    queries: Side
    documents: Side
    within: Floats
    cross: Floats


def collect_pairs(
    vectors: Vectors, *, queries: Ints, documents: Ints, pairs: Ints
) -> PairStatistics:
    """Streams over queries, documents and pairs once.

    Args:
        vectors: All stored embeddings (rows, D), for instance memory-mapped.
        queries: Row of each query (Q,).
        documents: Row of each document (N,).
        pairs: Positions of queries and of their relevant documents (P, 2).

    Raises:
        ConfigError: There are no pairs.
    """
    if not len(pairs):
        raise ConfigError("no query has a relevant document to learn from")
    q, d = _side(vectors, queries), _side(vectors, documents)
    within, cross = np.zeros_like(q.covariance), np.zeros_like(q.covariance)
    for start in range(0, len(pairs), _CHUNK):
        part = pairs[start : start + _CHUNK]
        asked = vectors[queries[part[:, 0]]].astype(np.float64) - q.mean
        found = vectors[documents[part[:, 1]]].astype(np.float64) - d.mean
        cross += asked.T @ found
        within += (asked - found).T @ (asked - found)
    return PairStatistics(
        queries=q, documents=d, within=within / (2 * len(pairs)), cross=cross / q.count
    )


def halves_scatter(vectors: Vectors, *, first: Ints, second: Ints) -> Floats:
    """Mean over texts of (a - b)(a - b)' / 2 for their halves a and b, each side minus its mean.

    Args:
        vectors: All stored embeddings (rows, D).
        first: Row of each text's first half (M,), one at least.
        second: Row of its second half (M,).
    """
    every = np.arange(len(first))
    return collect_pairs(
        vectors, queries=first, documents=second, pairs=np.stack([every, every], axis=1)
    ).within


def group_scatter(vectors: Vectors, *, rows: Ints, groups: Ints) -> Floats | None:
    """Covariance of texts around the mean of their group; None without groups of two.

    Args:
        vectors: All stored embeddings (rows, D).
        rows: Row of each text (N,).
        groups: Group of each text (N,), -1 for none.
    """
    order = np.argsort(groups, kind="stable")
    order = order[groups[order] >= 0]
    starts = np.flatnonzero(np.diff(groups[order], prepend=-1))
    sizes = np.diff(np.append(starts, len(order)))
    freedom = int((sizes - 1).sum())
    if not freedom:
        return None
    scatter = np.zeros((vectors.shape[1], vectors.shape[1]))
    # Whole groups at a time, about a chunk of texts.
    cuts = np.unique(np.searchsorted(starts, np.arange(0, len(order), _CHUNK)))
    cuts = cuts[cuts < len(starts)]
    for first, last in zip(cuts, np.append(cuts[1:], len(starts)), strict=True):
        members = order[starts[first] : starts[first] + int(sizes[first:last].sum())]
        x = vectors[rows[members]].astype(np.float64)
        sums = np.add.reduceat(x, starts[first:last] - starts[first], axis=0)
        x -= np.repeat(sums / sizes[first:last, None], sizes[first:last], axis=0)
        scatter += x.T @ x
    return scatter / freedom


def _side(vectors: Vectors, rows: Ints) -> Side:
    # Moments about a point near the mean: squares of large means would cost digits.
    origin = vectors[rows[:_CHUNK]].astype(np.float64).mean(axis=0)
    total, squares = np.zeros_like(origin), np.zeros((len(origin), len(origin)))
    for start in range(0, len(rows), _CHUNK):
        x = vectors[rows[start : start + _CHUNK]].astype(np.float64) - origin
        total += x.sum(axis=0)
        squares += x.T @ x
    offset = total / len(rows)
    return Side(
        count=len(rows),
        mean=origin + offset,
        covariance=squares / len(rows) - np.outer(offset, offset),
    )
