"""Folding: weights multiplied into a query vector, so that any inner product searches with them.

With w_b the weight of block b and s_b its score scale, the vector with the blocks w_b s_b q_b has
with a document's blocks d_b, side by side, the inner product

    sum_b  w_b s_b <q_b, d_b>

which is the score of `subspace.Index.search`. A direction of `toward` is added to it as it is.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, cast

import numpy as np

from subspace.arrays import Vectors
from subspace.blocks import BlockLayout, Blocks
from subspace.errors import LayoutError, QueryError
from subspace.model.block_weights import (
    check_some_weight,
    parse_block_weights,
    read_block_weights,
)
from subspace.model.document_sample import DocumentSample
from subspace.model.toward import Toward, make_direction, read_toward

if TYPE_CHECKING:
    from subspace.model.model import Model

FoldQuery = str | Mapping[str, str] | Blocks
BlockWeights = Mapping[str, float] | str


def fold_query(
    model: "Model",
    query: FoldQuery,
    weights: BlockWeights | None,
    *,
    toward: Toward | str | None,
    sample: DocumentSample | None,
) -> Vectors:
    """Folds weights into a query; see `Model.fold`."""
    asked = _embed(model, query)
    table = _read_weights(model, query, weights)
    scales = [model.score_scales[name] for name in model.layout]
    scaled = [weight * scale for weight, scale in zip(table, scales, strict=True)]
    folded = asked * np.repeat(np.array(scaled, np.float32), model.layout.widths)
    if toward is not None:
        folded += _direction(model, toward, sample=sample, relevance=scaled)
    return folded if isinstance(query, Blocks) else np.asarray(folded[0])


def compose(parts: Mapping[str, Vectors], *, layout: BlockLayout) -> Vectors:
    """Returns the vector (layout.dim,) whose blocks come from one vector each; others are 0.

    Args:
        parts: By block, a vector (layout.dim,) that has the block.
        layout: The blocks.

    Raises:
        QueryError: There are no parts, or a name is not that of a block.
    """
    if not parts:
        raise QueryError("a composed query needs a text or an item for one block at least")
    composed = np.zeros(layout.dim, dtype=np.float32)
    for block, vector in parts.items():
        if block not in layout.names:
            raise QueryError(f"no block '{block}'; the blocks are {', '.join(layout)}")
        place = layout.slice(block)
        composed[place] = vector[place]
    return composed


def _embed(model: "Model", query: FoldQuery) -> Vectors:
    """Returns the blocks of a query (N, layout.dim), which prefer texts of their own classes."""
    if isinstance(query, Blocks):
        if query.layout != model.layout:
            raise LayoutError(
                f"the query has the blocks {query.layout.to_widths()}, the model has "
                f"{model.layout.to_widths()}"
            )
        return model.near_classes(query.array)
    if isinstance(query, str):
        return model.near_classes(model.encode_query([query]).array)
    if not isinstance(query, Mapping) or not all(isinstance(one, str) for one in query.values()):
        raise QueryError(
            f"give a text, texts by block, or the Blocks of vectors, not {query!r:.60}"
        )
    parts = cast(Mapping[str, str], query)
    texts = list(dict.fromkeys(parts.values()))
    found = model.near_classes(model.encode_query(texts).array) if texts else ()
    known = dict(zip(texts, found, strict=True))
    return compose({b: known[text] for b, text in parts.items()}, layout=model.layout)[None]


def _read_weights(
    model: "Model", query: FoldQuery, weights: BlockWeights | None
) -> tuple[float, ...]:
    if weights is None:
        named = query if isinstance(query, Mapping) and not isinstance(query, Blocks) else ()
        weights = model.default_weights_with(named)
    elif isinstance(weights, str):
        weights = parse_block_weights(weights)
    table = read_block_weights(weights, layout=model.layout)
    check_some_weight(table, layout=model.layout)
    return table


def _direction(
    model: "Model",
    toward: Toward | str,
    *,
    sample: DocumentSample | None,
    relevance: list[float],
) -> Vectors:
    if sample is None:
        raise QueryError(
            "toward counts in standard deviations among the documents that are searched: give a "
            "sample of them, DocumentSample(texts, blocks)"
        )
    if sample.blocks.layout != model.layout:
        raise LayoutError("the sample has other blocks than the model")
    leaning = read_toward(toward)
    directions = {name: model.direction(name) for name in leaning}
    return make_direction(leaning, directions=directions, sample=sample, relevance=relevance).vector
