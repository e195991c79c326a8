"""Scatter: where texts differ, and where a factor shows, as matrices of the embedding space.

Each matrix (D, D) is positive semidefinite and has trace 1, and every source counts the same, so
that neither the size of a source nor the scale of its embeddings outweighs another's.
"""

from collections.abc import Mapping

import numpy as np

from subspace.arrays import AnyFloats, Floats, Ints
from subspace.fitting.moments import SourceMoments


def unit_trace(scatter: AnyFloats) -> Floats:
    """Scales a matrix to trace 1; zero stays zero."""
    trace = float(np.trace(scatter))
    return np.asarray(scatter / trace if trace > 0 else scatter, dtype=np.float64)


def total_scatter(moments: Mapping[str, SourceMoments], *, dims: Ints) -> Floats:
    """How texts differ inside their source, mean over sources.

    Args:
        moments: By source.
        dims: The dimensions that are read, ascending.
    """
    read = np.ix_(dims, dims)
    parts = [unit_trace(source.covariance[read]) for source in moments.values()]
    return unit_trace(np.mean(parts, axis=0))


def factor_scatter(
    moments: Mapping[str, SourceMoments], *, factor: str, dims: Ints
) -> Floats | None:
    """Where a factor shows, mean over the sources that label it; None if none does.

    In each source it is the mean of two: the scatter of class means, and the scatter within groups
    of parallel texts, which changes the factor and keeps the content. The second is left out where
    there are no groups.

    Args:
        moments: By source.
        factor: Its name.
        dims: The dimensions that are read, ascending.
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
