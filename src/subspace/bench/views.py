"""Views: what is kept of an encoder's vector, for documents and for queries."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from subspace.arrays import Vectors
from subspace.bench.reductions import Reduce, truncate_blocks
from subspace.blocks import BlockLayout, unit
from subspace.model.projection import Projection


@dataclass(frozen=True, eq=False)  # functions do not compare by what they do
class View:
    """The vectors that are searched; their inner products are the scores.

    Attributes:
        documents: Embeddings (M, D) to what is kept of them.
        queries: Embeddings (Q, D) to the same dimensions, weights included.
    """

    documents: Reduce
    queries: Reduce


# Fitted on the embeddings of all documents (N, D), each as a whole.
FitView = Callable[[Vectors], View]


def identity_view(_: Vectors) -> View:
    """What the reading gave, as it is."""
    return View(lambda x: x, lambda x: x)


def raw_view(raw: slice) -> FitView:
    """The raw embedding, of unit length."""
    return reduced_view(raw, lambda _: lambda x: x)


def reduced_view(raw: slice, fit: Callable[[Vectors], Reduce]) -> FitView:
    """The raw embedding, made smaller."""

    def fit_view(corpus: Vectors) -> View:
        reduce = fit(_raw(corpus, raw))
        return View(lambda x: reduce(_raw(x, raw)), lambda x: reduce(_raw(x, raw)))

    return fit_view


def blocks_view(
    projection: Projection,
    *,
    names: Sequence[str],
    weights: Mapping[str, float],
    kept: BlockLayout | None = None,
) -> FitView:
    """Trained blocks, each of unit length, weighted on the query's side.

    Args:
        projection: To blocks.
        names: Which of them.
        weights: Weight by block name.
        kept: How wide each block is; as the projection makes it if None.
    """
    layout = kept or projection.layout

    def pick(z: Vectors) -> list[Vectors]:
        cut = truncate_blocks(z, layout=projection.layout, kept=layout)
        return [cut[:, layout.slice(name)] for name in names]

    def documents(x: Vectors) -> Vectors:
        return np.concatenate(pick(projection(x)), axis=1)

    def queries(x: Vectors) -> Vectors:
        parts = zip(names, pick(projection.queries(x)), strict=True)
        return np.concatenate([np.float32(weights[name]) * z for name, z in parts], axis=1)

    return lambda _: View(documents, queries)


def _raw(x: Vectors, raw: slice) -> Vectors:
    return unit(x[:, raw]).astype(np.float32, copy=False)
