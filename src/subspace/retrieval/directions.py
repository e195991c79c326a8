"""Directions: searches that prefer more or less of a factor, such as simpler texts.

For a numeric factor the model's head is a direction u_b in the factor's block. The score of a
document becomes

    score(q, d) + sum_b  c_b * s * (<u_b, d_b> - m_b) / sd_b

with m_b and sd_b the mean and the standard deviation of <u_b, d_b> among the documents, and s the
standard deviation of relevance. One standard deviation of the factor thus adds c_b times as much
as one of relevance. Apart from a constant the new term is an inner product with d, so it is folded
into the query vector.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from subspace.arrays import Vectors
from subspace.errors import QueryError
from subspace.model.length import without_length
from subspace.retrieval.block_index import BlockIndex
from subspace.retrieval.hits import Hit, Results
from subspace.retrieval.search_options import SearchOptions
from subspace.retrieval.weights import Weights

Toward = Mapping[str, float]
# Far beyond what leaves anything of relevance; more would end in infinity.
_MOST = 1e6


@dataclass(frozen=True, eq=False)  # `==` of arrays is not a single truth value
class Direction:
    """A term of the score: <vector, d> minus the sum of the offsets.

    Attributes:
        vector: Weighted sum of the factors' directions (layout.dim,); zero in other blocks. What
            follows the number of words is taken out; see `subspace.model.length`.
        offsets: By block, the mean of <vector, d> over the documents.
    """

    vector: Vectors
    offsets: Mapping[str, float]


def read_toward(toward: Toward | str) -> dict[str, float]:
    """Reads a text such as `complexity=-1,specificity=0.5`, or checks a mapping of that kind.

    Raises:
        QueryError: The argument does not have that form, or a number is not finite.
    """
    pairs: Sequence[tuple[str, object]]
    if isinstance(toward, str):
        pairs = [(name.strip(), value) for name, _, value in _split(toward)]
    elif isinstance(toward, Mapping):
        pairs = list(toward.items())
    else:
        raise QueryError(f"toward must be numbers by factor, like complexity=-1, got {toward!r}")
    read: dict[str, float] = {}
    for name, value in pairs:
        number = _to_number(value)
        if not name or number is None:
            raise QueryError(
                f"toward must read like complexity=-1,style:formal=0.5, cannot read "
                f"{name}={value}; a class with a comma in its name is given as a mapping in Python"
            )
        if abs(number) > _MOST:
            raise QueryError(f"toward {name}={number:g} is too much: give {_MOST:g} at most")
        if name in read:
            raise QueryError(f"toward names '{name}' twice")
        read[name] = number
    return read


def search_toward(
    index: BlockIndex,
    queries: Vectors,
    *,
    weights: Weights,
    direction: Direction,
    options: SearchOptions,
    own: Sequence[Collection[str]],
) -> list[Results]:
    """Searches like `BlockIndex.search_each`, with a direction added to the score.

    Args:
        index: The index.
        queries: Unit blocks (Q, dim).
        weights: The weights of all queries.
        direction: Made by `make_direction`.
        options: As in `search_each`; with `candidates`, the direction reorders only these.
        own: For each query, ids that are left out of its hits.
    """
    if options.candidates is not None:
        wider = replace(options, k=options.candidates)
        found = index.search_each(queries, weights=weights, options=wider, own=own)
        return [add_direction(one, direction=direction, index=index, k=options.k) for one in found]
    folded, table = fold_direction(queries, direction=direction, weights=weights)
    found = index.search_each(folded, weights=table, options=options, own=own)
    return [_less_offsets(one, direction) for one in found]


def make_direction(
    toward: Toward,
    *,
    directions: Mapping[str, Vectors],
    index: BlockIndex,
    weights: Weights,
) -> Direction:
    """Makes the direction that is added to the scores of documents.

    Args:
        toward: The number c_b by factor; below 0 to prefer less of the factor.
        directions: The direction u_b toward more of each factor (layout.dim,).
        index: The index; means and standard deviations are measured on a sample of it.
        weights: The weights of the search, from which the standard deviation of relevance is
            computed.
    """
    documents = index.sample.vectors
    spread = index.score_spread.blocks
    parts = [w * spread[name] for name, w in zip(index.layout, weights.relevance, strict=True)]
    unit = float(np.linalg.norm(parts)) or 1.0
    direction = np.zeros(index.layout.dim)
    for factor, count in toward.items():
        one = without_length(
            directions[factor].astype(np.float64), index.length_covariance, count=len(documents)
        )
        deviation = float((documents @ one).std()) if len(documents) else 0.0
        if deviation > 0:  # a factor that is the same in all documents cannot order them
            direction += count * unit / deviation * one
    means = index.layout.split(documents.mean(axis=0) * direction if len(documents) else direction)
    offsets = {name: float(part.sum()) for name, part in means.items() if part.any()}
    return Direction(vector=direction.astype(np.float32), offsets=offsets)


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


def _split(text: str) -> list[tuple[str, str, str]]:
    return [part.rpartition("=") for part in text.split(",")]


def _to_number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, str | int | float | np.number):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if np.isfinite(number) else None
