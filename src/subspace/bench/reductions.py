"""Reductions to fewer dimensions: principal components, random projection, truncation.

Each is fitted on documents only, never on queries or judgements, and returns unit vectors.
"""

from collections.abc import Callable

import numpy as np
from sklearn.decomposition import PCA
from sklearn.random_projection import GaussianRandomProjection

from subspace.arrays import AnyFloats, Vectors
from subspace.blocks import BlockLayout, unit, unit_blocks
from subspace.errors import ConfigError

Reduce = Callable[[Vectors], Vectors]


def fit_pca(documents: Vectors, *, k: int) -> Reduce:
    """Fits the first `k` principal components of documents (N, D); `k` is at most N and D."""
    pca = PCA(n_components=k, svd_solver="full").fit(documents)
    return lambda x: _unit(pca.transform(x))


def fit_random(documents: Vectors, *, k: int) -> Reduce:
    """Draws a Gaussian projection to `k` dimensions, seed 0 (Johnson and Lindenstrauss 1984)."""
    projection = GaussianRandomProjection(n_components=k, random_state=0).fit(documents)
    return lambda x: _unit(projection.transform(x))


def truncate(x: Vectors, *, k: int) -> Vectors:
    """Keeps the first `k` dimensions, as Matryoshka models are cut (Kusupati et al. 2022)."""
    return _unit(x[:, :k])


def truncate_blocks(z: Vectors, *, layout: BlockLayout, kept: BlockLayout) -> Vectors:
    """Keeps the leading dimensions of every block, and scales each block to unit length.

    Args:
        z: Unit blocks (N, layout.dim).
        layout: The blocks.
        kept: The same blocks, none wider.

    Returns:
        Unit blocks (N, kept.dim).
    """
    parts = [block[:, : kept.widths[n]] for n, block in enumerate(layout.split(z).values())]
    return unit_blocks(np.concatenate(parts, axis=1), layout=kept).astype(np.float32, copy=False)


def share_dimensions(layout: BlockLayout, *, k: int) -> BlockLayout:
    """Distributes `k` dimensions over the blocks by their width, at least one to each.

    Raises:
        ConfigError: `k` is below the number of blocks, or above that of their dimensions.
    """
    if not len(layout) <= k <= layout.dim:
        raise ConfigError(
            f"{k} dimensions cannot be shared out among the checkpoint's blocks: give {len(layout)}"
            f" to {layout.dim}"
        )
    widths = np.array(layout.widths)
    exact = 1 + (widths - 1) * (k - len(layout)) / max(1, layout.dim - len(layout))
    kept = np.floor(exact + 1e-9).astype(np.int64)
    # Dimensions that rounding leaves over go to the largest remainders.
    kept[np.argsort(kept - exact, kind="stable")[: k - kept.sum()]] += 1
    return BlockLayout(layout.names, tuple(kept.tolist()))


def divide_widths(layout: BlockLayout, *, by: int) -> BlockLayout:
    """Divides the width of every block by `by`, rounded up."""
    return BlockLayout(layout.names, tuple(-(-width // by) for width in layout.widths))


def _unit(x: AnyFloats) -> Vectors:
    return unit(x).astype(np.float32, copy=False)
