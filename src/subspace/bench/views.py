"""Views: the part of an encoder's vectors that is kept, for documents and for queries."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from subspace.arrays import Vectors
from subspace.bench.reductions import Reduce, truncate_blocks
from subspace.blocks import BlockLayout, unit
from subspace.encoder import Kind
from subspace.model import Model


@dataclass(frozen=True, eq=False)  # functions compare by identity
class View:
    """Maps of the vectors of documents and queries; the inner products are the scores.

    Attributes:
        documents: Maps raw vectors (M, D) to (M, d).
        queries: Maps raw vectors (Q, D) to (Q, d), weights included.
    """

    documents: Reduce
    queries: Reduce


# Makes a view from the raw vectors of all documents (N, D), each encoded as a whole.
FitView = Callable[[Vectors], View]


def identity_view(_: Vectors) -> View:
    """Makes the view that keeps vectors as they are."""
    return View(lambda x: x, lambda x: x)


def raw_view(raw: slice) -> FitView:
    """Makes views that keep the raw embedding at unit length.

    Args:
        raw: Dimensions of the raw embedding.
    """
    return reduced_view(raw, lambda _: lambda x: x)


def reduced_view(raw: slice, fit: Callable[[Vectors], Reduce]) -> FitView:
    """Makes views that keep a reduction of the raw embedding.

    Args:
        raw: Dimensions of the raw embedding.
        fit: Fits the reduction to the raw embeddings of all documents (N, d).
    """

    def fit_view(corpus: Vectors) -> View:
        reduce = fit(_take(corpus, raw))
        return View(lambda x: reduce(_take(x, raw)), lambda x: reduce(_take(x, raw)))

    return fit_view


def blocks_view(
    model: Model,
    *,
    names: Sequence[str],
    weights: Mapping[str, float],
    kept: BlockLayout | None = None,
) -> FitView:
    """Makes views that keep blocks of a model at unit length, weighted in the queries.

    Args:
        model: Model with the blocks.
        names: Names of the blocks to keep.
        weights: Weight by block name, scales included.
        kept: Width of each block after its last dimensions are cut off; whole blocks if None.
    """
    layout = kept or model.layout

    def pick(x: Vectors, kind: Kind) -> list[Vectors]:
        blocks = model.project(x, kind=kind).array
        cut = truncate_blocks(blocks, layout=model.layout, kept=layout)
        return [cut[:, layout.slice(name)] for name in names]

    def documents(x: Vectors) -> Vectors:
        return np.concatenate(pick(x, "document"), axis=1)

    def queries(x: Vectors) -> Vectors:
        parts = zip(names, pick(x, "query"), strict=True)
        return np.concatenate([np.float32(weights[name]) * z for name, z in parts], axis=1)

    return lambda _: View(documents, queries)


def _take(x: Vectors, raw: slice) -> Vectors:
    return unit(x[:, raw]).astype(np.float32, copy=False)
