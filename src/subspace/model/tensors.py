"""A projection as named tensors, and back."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from subspace.arrays import Vectors
from subspace.blocks import BlockLayout
from subspace.errors import CheckpointError
from subspace.model.projection import Projection, QuerySide

WEIGHT_KEY = "weight"
MEAN_KEY = "mean"
OFFSET_KEY = "offset"
QUERY_WEIGHT_KEY = "query_weight"
QUERY_OFFSET_KEY = "query_offset"
_REQUIRED = (WEIGHT_KEY, MEAN_KEY)
_OF_QUERIES = (OFFSET_KEY, QUERY_WEIGHT_KEY, QUERY_OFFSET_KEY)
NAMES = (*_REQUIRED, *_OF_QUERIES)


def to_tensors(projection: Projection) -> dict[str, Vectors]:
    """What a projection consists of, by its name in a file."""
    tensors = {WEIGHT_KEY: projection.weight, MEAN_KEY: projection.mean}
    if projection.offset is not None:
        tensors[OFFSET_KEY] = projection.offset
    if projection.query is not None:
        tensors[QUERY_WEIGHT_KEY] = projection.query.weight
        tensors[QUERY_OFFSET_KEY] = projection.query.offset
    return tensors


def check_names(tensors: Mapping[str, Any], *, name: Path | str) -> None:
    """Refuses other tensors than those of a projection.

    Raises:
        CheckpointError: With their names.
    """
    if set(tensors) not in ({*_REQUIRED}, {*_REQUIRED, *_OF_QUERIES}):
        raise CheckpointError(
            f"{name} must hold the tensors {' and '.join(_REQUIRED)}, and either all or none of "
            f"{', '.join(_OF_QUERIES)}; got {sorted(tensors)}"
        )


def from_tensors(tensors: Mapping[str, Vectors], *, layout: BlockLayout) -> Projection:
    """The inverse of `to_tensors`."""
    query = None
    if QUERY_WEIGHT_KEY in tensors:
        query = QuerySide(weight=tensors[QUERY_WEIGHT_KEY], offset=tensors[QUERY_OFFSET_KEY])
    return Projection(
        weight=tensors[WEIGHT_KEY],
        mean=tensors[MEAN_KEY],
        layout=layout,
        offset=tensors.get(OFFSET_KEY),
        query=query,
    )
