"""Baselines: what can be had without separating anything, cut into blocks of the same widths."""

from collections.abc import Mapping

import numpy as np
from scipy.stats import ortho_group

from subspace.arrays import Floats
from subspace.blocks import BlockLayout
from subspace.fitting.closed_form import RESIDUAL, ClosedForm, solve_closed_form
from subspace.fitting.moments import SourceStatistics
from subspace.fitting.pair_blocks import PAIR_BLOCKS
from subspace.model.projection import Projection


def random_rotation(*, layout: BlockLayout, raw: slice, dim: int, seed: int = 0) -> Projection:
    """A random rotation of the raw embedding, cut into the factors' blocks."""
    layout = factor_blocks(layout)
    width = len(range(dim)[raw])
    rotation = ortho_group.rvs(width, random_state=seed) if width > 1 else np.ones((1, 1))
    return _cut(rotation, layout=layout, raw=raw, mean=np.zeros(dim))


def principal_components(
    statistics: Mapping[str, SourceStatistics], *, layout: BlockLayout, raw: slice
) -> Projection:
    """The principal components of the raw embedding, in order, cut into the factors' blocks."""
    layout = factor_blocks(layout)
    total = np.mean([source.covariance[raw, raw] for source in statistics.values()], axis=0)
    values, vectors = np.linalg.eigh(total)
    mean = np.mean([source.mean for source in statistics.values()], axis=0)
    return _cut(vectors[:, np.argsort(-values)].T, layout=layout, raw=raw, mean=mean)


def unguarded_lda(
    statistics: Mapping[str, SourceStatistics],
    *,
    layout: BlockLayout,
    raw: slice,
    shrinkage: float = ClosedForm.shrinkage,
) -> Projection:
    """Discriminant analysis of every factor by itself: labels alone, no guard, no caution."""
    labels_only = {
        name: SourceStatistics(
            count=source.count,
            mean=source.mean,
            covariance=source.covariance,
            factors=source.factors,
        )
        for name, source in statistics.items()
    }
    layout = factor_blocks(layout)
    settings = ClosedForm(shrinkage=shrinkage, guard=0.0, content="")
    return solve_closed_form(labels_only, layout=layout, settings=settings, raw=raw).projection


def factor_blocks(layout: BlockLayout) -> BlockLayout:
    """The layout without the residual and what is learned from pairs: large, and of no factor."""
    return BlockLayout.from_widths(
        {
            block: width
            for block, width in layout.to_widths().items()
            if block not in (RESIDUAL, *PAIR_BLOCKS)
        }
    )


def _cut(rows: Floats, *, layout: BlockLayout, raw: slice, mean: Floats) -> Projection:
    """Consecutive rows as blocks; from the start again where they do not suffice."""
    weight = np.zeros((layout.dim, len(mean)))
    weight[:, raw] = rows[np.arange(layout.dim) % len(rows)]
    return Projection(weight=weight.astype(np.float32), mean=mean.astype(np.float32), layout=layout)
