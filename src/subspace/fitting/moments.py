"""Moments of embeddings, streamed once per source: all that the closed form needs.

Shapes: D is the embedding dimension, K a factor's number of classes, N a source's texts.

Sums of vectors are taken in float64. Products are float32 inside a chunk, about a point near the
mean, and added up in float64: half the time of float64, and off by less than 1e-6 of the standard
deviations' product (docs/performance.md).
"""

import mmap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import sparse

from subspace.arrays import Floats, Ints, Vectors
from subspace.data.labels import Column, Labels

# Rows per step: at 1,024 dimensions 16 MiB in float32.
_CHUNK = 4096


@dataclass(frozen=True)
class FactorMoments:
    """How one factor's classes lie in one source.

    Attributes:
        counts: Texts per class (K,); a text counts its label's weight, here and below.
        means: Class means minus the mean of all labelled texts (K, D); zeros for a class without
            texts.
        within_groups: Scatter (D, D) of what the factor changes while the content stays: the
            means of the classes inside a group about the group's mean, over the groups that hold
            more than one class. None if there are none.
        weight: Mean weight of the labels: what the source counts against others.
    """

    counts: Floats
    means: Floats
    within_groups: Vectors | None
    weight: float = 1.0

    @property
    def between(self) -> Floats:
        """Between-class covariance (D, D): zero exactly if no linear probe beats a constant."""
        weights = self.counts / _where_positive(self.counts.sum())
        return np.asarray((self.means * weights[:, None]).T @ self.means)


@dataclass(frozen=True)
class SourceMoments:
    """First and second moments of one source, and its factors' class means.

    Attributes:
        count: Number of texts N.
        mean: Mean embedding (D,).
        covariance: Total covariance (D, D), float32.
        factors: Moments by factor.
    """

    count: int
    mean: Floats
    covariance: Vectors
    factors: Mapping[str, FactorMoments]


def collect_moments(vectors: Vectors, *, rows: Ints, labels: Labels) -> SourceMoments:
    """Streams over one source's embeddings, in the order of their rows.

    Memory does not depend on N beyond the labels: (D, D) once and per factor with groups, (K, D)
    per factor.

    Args:
        vectors: All stored embeddings (rows, D), for instance memory-mapped.
        rows: Row in `vectors` of each of the source's N texts.
        labels: Their labels, same order.

    Raises:
        ValueError: The source has no texts.
    """
    if not len(rows):
        raise ValueError(f"source '{labels.source}' has no texts to take moments of")
    count, dim = len(rows), vectors.shape[1]
    own = {factor: _class_weights(column) for factor, column in labels.columns.items()}
    # Every sum is a weighted sum of the vectors: one product gives them all.
    tables = [sparse.csr_array(np.ones((count, 1))), *own.values()]
    weights = sparse.hstack(tables, format="csr")
    sums, squares = np.zeros((weights.shape[1], dim)), np.zeros((dim, dim))
    # Moments about a point near the mean: squares of large means would cost digits.
    origin = vectors[np.sort(rows)[:_CHUNK]].mean(axis=0, dtype=np.float64).astype(np.float32)
    for positions, x in _stream(vectors, rows):
        sums += weights[positions].T @ x
        centred = x - origin
        squares += centred.T @ centred
    total, *parts = np.split(sums, np.cumsum([table.shape[1] for table in tables])[:-1])
    mean = total[0] / count
    offset = mean - origin
    covariance = squares / count - np.outer(offset, offset)
    return SourceMoments(
        count=count,
        mean=mean,
        covariance=covariance.astype(np.float32),
        factors={
            factor: _finish_factor(
                labels.columns[factor],
                sums=part,
                within_groups=within_groups(
                    vectors, rows=rows, column=labels.columns[factor], groups=labels.groups
                ),
            )
            for factor, part in zip(own, parts, strict=True)
        },
    )


def within_groups(vectors: Vectors, *, rows: Ints, column: Column, groups: Ints) -> Vectors | None:
    """Scatter (D, D) of the classes' means inside a group about the mean of these means.

    Args:
        vectors: All stored embeddings (rows, D).
        rows: Row of each of the source's N texts.
        column: One factor's labels of these texts.
        groups: Group of each text (N,), -1 where it has none.

    Returns:
        The mean over the classes of all groups that hold more than one; None if there are none.
    """
    known = np.flatnonzero((groups >= 0) & (column.codes >= 0))
    keys = np.stack([groups[known], column.codes[known]], axis=1)
    cells, cell = np.unique(keys, axis=0, return_inverse=True)
    cell = cell.reshape(-1)
    _, group = np.unique(cells[:, 0], return_inverse=True)
    classes = np.bincount(group)  # by group
    kept = np.flatnonzero(classes[group] > 1)
    if not len(kept):
        return None
    # One row of weights (N,) per cell: the mean of its texts, less that of its group's cells.
    count = len(cells)
    means = sparse.csr_array((1 / np.bincount(cell)[cell], (cell, known)), shape=(count, len(rows)))
    of_group = sparse.csr_array((np.ones(count), (group, np.arange(count))))
    averages = sparse.csr_array(sparse.diags_array(1 / classes) @ of_group @ means)
    weights = sparse.csr_array((means - averages[group])[kept])
    scatter = np.zeros((vectors.shape[1], vectors.shape[1]))
    for start in range(0, len(kept), _CHUNK):
        part = weights[start : start + _CHUNK]
        texts = np.unique(part.indices)
        x = part[:, texts] @ vectors[rows[texts]].astype(np.float64)
        scatter += x.T @ x
    return (scatter / len(kept)).astype(np.float32)


def _stream(vectors: Vectors, rows: Ints) -> Iterator[tuple[Ints, Vectors]]:
    """Positions in `rows` and their vectors (M, D), chunk by chunk in the order of the file."""
    order = np.argsort(rows, kind="stable")
    for start in range(0, len(order), _CHUNK):
        positions = order[start : start + _CHUNK]
        chunk = rows[positions]
        if (np.diff(chunk) == 1).all():  # neighbours need not be copied
            yield positions, np.asarray(vectors[chunk[0] : chunk[-1] + 1], dtype=np.float32)
        else:
            yield positions, np.asarray(vectors[chunk], dtype=np.float32)
        # What was read of a mapped file need not stay in memory; the file may be larger. (Where
        # the system knows how: Linux and macOS.)
        release = getattr(vectors.base, "madvise", None)
        if release and not vectors.flags.writeable:
            release(mmap.MADV_DONTNEED)


def _finish_factor(column: Column, *, sums: Floats, within_groups: Vectors | None) -> FactorMoments:
    weights = _weights_of(column)
    labelled = column.labelled
    counts = np.bincount(
        column.codes[labelled], weights=weights[labelled], minlength=column.class_count
    )
    means = sums / _where_positive(counts)[:, None]
    centre = sums.sum(axis=0) / _where_positive(counts.sum())
    return FactorMoments(
        counts=counts.astype(np.float64),
        means=np.where(counts[:, None] > 0, means - centre, 0.0),
        within_groups=within_groups,
        weight=float(weights[labelled].mean()) if len(labelled) else 0.0,
    )


def _weights_of(column: Column) -> Floats:
    return np.ones(len(column.codes)) if column.weights is None else column.weights


def _where_positive(counts: npt.ArrayLike) -> Floats:
    """Counts to divide by: sums of nothing stay zero."""
    counts = np.asarray(counts, dtype=np.float64)
    return np.where(counts > 0, counts, 1.0)


def _class_weights(column: Column) -> sparse.csr_array:
    """Weights (N, K) by which texts add up to the sums of their classes."""
    labelled = column.labelled
    return sparse.csr_array(
        (_weights_of(column)[labelled], (labelled, column.codes[labelled])),
        shape=(len(column.codes), column.class_count),
    )
