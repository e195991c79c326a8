"""Moments of the embeddings of a source, which are all that the closed-form solver needs.

Shapes: D is the number of dimensions of an embedding, K the number of classes of a factor, N the
number of texts of a source.

Sums of vectors are taken in float64. Products are taken in float32 within a chunk, about a point
near the mean, and are added up in float64. This takes half the time of float64, and the error is
less than 1e-6 of the product of the standard deviations (docs/performance.md).
"""

import mmap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import sparse

from subspace.arrays import Floats, Ints, Vectors
from subspace.data.labels import Column, Labels

# Rows per chunk: 16 MiB in float32 at 1,024 dimensions.
_CHUNK = 4096


@dataclass(frozen=True)
class FactorMoments:
    """Class statistics of one factor in one source.

    Attributes:
        counts: Number of texts per class (K,). Each text counts with the weight of its label.
        means: Class means minus the mean of all labelled texts (K, D), with the same weights; zeros
            for a class without texts.
        within_groups: Scatter matrix (D, D) of class means within groups of parallel texts, where
            the factor changes and the content stays. None if no group holds more than one class.
        weight: Mean weight of the labels, with which the source counts against other sources.
    """

    counts: Floats
    means: Floats
    within_groups: Vectors | None
    weight: float = 1.0

    @property
    def between(self) -> Floats:
        """Between-class covariance (D, D); zero if and only if no linear probe beats a constant."""
        weights = self.counts / _where_positive(self.counts.sum())
        return np.asarray((self.means * weights[:, None]).T @ self.means)


@dataclass(frozen=True)
class SourceMoments:
    """Mean and covariance of one source, and the class statistics of its factors.

    Attributes:
        count: Number of texts N.
        mean: Mean embedding (D,).
        covariance: Total covariance (D, D), float32.
        factors: Class statistics by factor.
    """

    count: int
    mean: Floats
    covariance: Vectors
    factors: Mapping[str, FactorMoments]


def collect_moments(vectors: Vectors, *, rows: Ints, labels: Labels) -> SourceMoments:
    """Collects the moments of one source, reading its embeddings in the order of their rows.

    Except for the labels, memory does not grow with N. It takes one (D, D) matrix, one more for
    every factor with groups, and one (K, D) matrix for every factor.

    Args:
        vectors: All stored embeddings (rows, D), for instance memory-mapped.
        rows: Row in `vectors` of each of the source's N texts.
        labels: Labels of the texts, in the same order.

    Raises:
        ValueError: The source has no texts.
    """
    if not len(rows):
        raise ValueError(f"source '{labels.source}' has no texts to take moments of")
    count, dim = len(rows), vectors.shape[1]
    own = {factor: _class_weights(column) for factor, column in labels.columns.items()}
    # All sums are weighted sums of the vectors, so that one product gives them all.
    tables = [sparse.csr_array(np.ones((count, 1))), *own.values()]
    weights = sparse.hstack(tables, format="csr")
    sums, squares = np.zeros((weights.shape[1], dim)), np.zeros((dim, dim))
    # Moments are taken about a point near the mean, since squares of large means lose precision.
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
    """Computes the scatter matrix (D, D) of class means within groups of parallel texts.

    The mean of a class within a group is taken about the mean of the group's class means.

    Args:
        vectors: All stored embeddings (rows, D).
        rows: Row of each of the source's N texts.
        column: Labels of these texts for one factor.
        groups: Group of each text (N,), -1 for a text without a group.

    Returns:
        The average over the classes of all groups that hold more than one class; None if there is
        no such group.
    """
    known = np.flatnonzero((groups >= 0) & (column.codes >= 0))
    keys = np.stack([groups[known], column.codes[known]], axis=1)
    cells, cell = np.unique(keys, axis=0, return_inverse=True)
    cell = cell.reshape(-1)
    _, group = np.unique(cells[:, 0], return_inverse=True)
    classes = np.bincount(group)  # number of classes of each group
    kept = np.flatnonzero(classes[group] > 1)
    if not len(kept):
        return None
    # A cell is one class within one group. Each cell has a row of weights (N,) that give the mean
    # of its texts minus the mean over the cells of its group.
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
    """Yields positions in `rows` and their vectors (M, D), in chunks in the order of the file."""
    order = np.argsort(rows, kind="stable")
    for start in range(0, len(order), _CHUNK):
        positions = order[start : start + _CHUNK]
        chunk = rows[positions]
        if (np.diff(chunk) == 1).all():  # a slice of consecutive rows is not copied
            yield positions, np.asarray(vectors[chunk[0] : chunk[-1] + 1], dtype=np.float32)
        else:
            yield positions, np.asarray(vectors[chunk], dtype=np.float32)
        # Releases the pages that were read, since a memory-mapped file may be larger than memory.
        # `madvise` exists on Linux and macOS only.
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
    """Replaces counts of 0 by 1, so that sums of no texts stay zero when divided by them."""
    counts = np.asarray(counts, dtype=np.float64)
    return np.where(counts > 0, counts, 1.0)


def _class_weights(column: Column) -> sparse.csr_array:
    """Returns the weights (N, K) with which each text counts in the sum of each class."""
    labelled = column.labelled
    return sparse.csr_array(
        (_weights_of(column)[labelled], (labelled, column.codes[labelled])),
        shape=(len(column.codes), column.class_count),
    )
