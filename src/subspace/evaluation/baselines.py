"""Baselines: projections that use no labels, cut into blocks of the same widths."""

from collections.abc import Mapping

import numpy as np
from scipy.stats import ortho_group

from subspace.arrays import Floats
from subspace.blocks import BlockLayout
from subspace.fitting.moments import SourceMoments
from subspace.model.projection import Projection


def random_rotation(*, layout: BlockLayout, raw: slice, dim: int, seed: int = 0) -> Projection:
    """Returns a random rotation of the raw embedding, cut into the blocks of a layout.

    Args:
        layout: Names and widths of the blocks.
        raw: Dimensions of an embedding that hold the raw embedding.
        dim: Number of dimensions of an embedding.
        seed: Seed of the rotation.
    """
    width = len(range(dim)[raw])
    rotation = ortho_group.rvs(width, random_state=seed) if width > 1 else np.ones((1, 1))
    return _cut(rotation, layout=layout, raw=raw, mean=np.zeros(dim))


def principal_components(
    moments: Mapping[str, SourceMoments], *, layout: BlockLayout, raw: slice
) -> Projection:
    """Returns the principal components of the raw embedding, cut into the blocks of a layout.

    The first block holds the leading components. Every source counts the same.

    Args:
        moments: Moments of the training texts, by source.
        layout: Names and widths of the blocks.
        raw: Dimensions of an embedding that hold the raw embedding.
    """
    total = np.mean([source.covariance[raw, raw] for source in moments.values()], axis=0)
    values, vectors = np.linalg.eigh(total)
    mean = np.mean([source.mean for source in moments.values()], axis=0)
    return _cut(vectors[:, np.argsort(-values)].T, layout=layout, raw=raw, mean=mean)


def _cut(rows: Floats, *, layout: BlockLayout, raw: slice, mean: Floats) -> Projection:
    """Fills the blocks with consecutive rows; starts over if the blocks need more rows."""
    weight = np.zeros((layout.dim, len(mean)))
    weight[:, raw] = rows[np.arange(layout.dim) % len(rows)]
    return Projection(weight=weight.astype(np.float32), mean=mean.astype(np.float32), layout=layout)
