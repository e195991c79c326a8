"""Scatter matrices of all texts and of one factor, averaged over sources.

Each matrix is square over the dimensions that are read, positive semidefinite, and of trace 1. The
matrix of each source is scaled to trace 1 before averaging, so that neither the number of its texts
nor the scale of its embeddings gives it more influence.
"""

from collections.abc import Mapping

import numpy as np

from subspace.arrays import AnyFloats, Floats, Ints
from subspace.fitting.moments import SourceMoments


def unit_trace(scatter: AnyFloats) -> Floats:
    """Scales a matrix to trace 1; a zero matrix stays zero."""
    trace = float(np.trace(scatter))
    return np.asarray(scatter / trace if trace > 0 else scatter, dtype=np.float64)


def total_scatter(moments: Mapping[str, SourceMoments], *, dims: Ints) -> Floats:
    """Returns the total covariance within a source, averaged over sources.

    Args:
        moments: Moments by source.
        dims: Dimensions of the embedding that are read, ascending.
    """
    read = np.ix_(dims, dims)
    total = np.zeros((len(dims), len(dims)))
    for source in moments.values():
        total += unit_trace(source.covariance[read])
    return unit_trace(total / len(moments))


def factor_scatter(
    moments: Mapping[str, SourceMoments], *, factor: str, dims: Ints
) -> Floats | None:
    """Returns the scatter matrix of a factor, averaged over the sources that label it.

    In each source it is the mean of two matrices: the scatter of class means, and the scatter of
    class means within groups of parallel texts, where the factor changes and the content stays. A
    source without such groups gives the first matrix alone. Sources count with the mean weight of
    their labels.

    Args:
        moments: Moments by source.
        factor: Name of the factor.
        dims: Dimensions of the embedding that are read, ascending.

    Returns:
        The matrix, or None if no source labels the factor.
    """
    read = np.ix_(dims, dims)
    total = np.zeros((len(dims), len(dims)))
    weight = 0.0
    for source in moments.values():
        own = source.factors.get(factor)
        if own is None:
            continue
        means = own.means[:, dims] * np.sqrt(own.counts / max(own.counts.sum(), 1))[:, None]
        parts = [unit_trace(means.T @ means)]
        if own.within_groups is not None:
            parts.append(unit_trace(own.within_groups[read]))
        total += own.weight * np.mean(parts, axis=0)
        weight += own.weight
    return unit_trace(total) if weight else None
