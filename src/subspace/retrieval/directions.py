"""Directions: searches that prefer more or less of a factor, such as simpler texts.

The direction of `subspace.model.toward` is folded into the query vector, as apart from a constant
it adds an inner product with the document to the score.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

import numpy as np

from subspace.arrays import Vectors
from subspace.model.toward import Direction
from subspace.retrieval.block_index import BlockIndex
from subspace.retrieval.hits import Hit, Results
from subspace.retrieval.keywords import KeywordScores
from subspace.retrieval.search_options import SearchOptions
from subspace.retrieval.weights import Weights


def search_toward(
    index: BlockIndex,
    queries: Vectors,
    *,
    weights: Weights,
    direction: Direction,
    options: SearchOptions,
    own: Sequence[Collection[str]],
    keywords: Sequence[KeywordScores] | None = None,
) -> list[Results]:
    """Searches like `BlockIndex.search_each`, with a direction added to the score.

    Args:
        index: The index.
        queries: Unit blocks (Q, dim).
        weights: The weights of all queries.
        direction: Made by `make_direction`.
        options: As in `search_each`; with `candidates`, the direction reorders only these.
        own: For each query, ids that are left out of its hits.
        keywords: As in `search_each`.
    """
    if options.candidates is not None:
        wider = replace(options, k=options.candidates)
        found = index.search_each(
            queries, weights=weights, options=wider, own=own, keywords=keywords
        )
        return [add_direction(one, direction=direction, index=index, k=options.k) for one in found]
    folded, table = fold_direction(queries, direction=direction, weights=weights)
    found = index.search_each(folded, weights=table, options=options, own=own, keywords=keywords)
    return [_less_offsets(one, direction) for one in found]


def fold_direction(
    queries: Vectors, *, direction: Direction, weights: Weights
) -> tuple[Vectors, Weights]:
    """Returns queries and weights whose scores include <direction.vector, d>.

    Args:
        queries: Unit blocks (Q, dim).
        direction: Made by `make_direction`.
        weights: The weights of the search without the direction.
    """
    vector = direction.vector
    leaning = [bool(part.any()) for part in weights.layout.split(vector).values()]
    own = weights.per_dimension("relevance")
    # In a block with weight 0 the direction would have no effect, so the block gets weight 1. Its
    # part of the query is set to 0 below.
    weights = replace(
        weights,
        relevance=tuple(
            1.0 if leans and not weight else weight
            for leans, weight in zip(leaning, weights.relevance, strict=True)
        ),
    )
    scale = weights.per_dimension("relevance")
    scaled = np.divide(vector, scale, out=np.zeros_like(vector), where=scale > 0)
    return np.where(own > 0, queries, 0) + scaled, weights


def add_direction(results: Results, *, direction: Direction, index: BlockIndex, k: int) -> Results:
    """Adds a direction to the scores of hits, and returns the best `k`.

    Args:
        results: Hits scored without the direction.
        direction: Made by `make_direction`.
        index: The index that the hits come from.
        k: Number of hits to keep.
    """
    found = index.engine.fetch([hit.id for hit in results])
    vectors = {d.id: v for d, v in zip(found.documents, found.vectors, strict=True)}
    hits = []
    for hit in _less_offsets(results, direction):
        if hit.id not in vectors:  # removed since it was found
            continue
        products = index.layout.split(vectors[hit.id].astype(np.float64) * direction.vector)
        hits.append(_add(hit, {name: float(part.sum()) for name, part in products.items()}))
    return replace(results, hits=tuple(sorted(hits, key=lambda hit: -hit.score)[:k]))


def _less_offsets(results: Results, direction: Direction) -> Results:
    less = {name: -offset for name, offset in direction.offsets.items()}
    return replace(results, hits=tuple(_add(hit, less) for hit in results))


def _add(hit: Hit, added: Mapping[str, float]) -> Hit:
    parts = {
        name: {**of_block, "relevance": of_block["relevance"] + added.get(name, 0.0)}
        for name, of_block in hit.parts.items()
    }
    score = sum(value for of_block in parts.values() for value in of_block.values())
    return replace(hit, parts=parts, score=score)
