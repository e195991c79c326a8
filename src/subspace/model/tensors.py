"""Conversion of a projection to named tensors and back."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from subspace.arrays import Vectors
from subspace.blocks import BlockLayout
from subspace.errors import CheckpointError
from subspace.model.projection import Projection, QuerySide

_REQUIRED = ("weight", "mean")
_OF_QUERIES = ("offset", "query_weight", "query_offset")
PROJECTION_TENSORS = (*_REQUIRED, *_OF_QUERIES)


def projection_tensors(projection: Projection) -> dict[str, Vectors]:
    """Returns the arrays of a projection by tensor name."""
    tensors = {"weight": projection.weight, "mean": projection.mean}
    if projection.offset is not None:
        tensors["offset"] = projection.offset
    if projection.query is not None:
        tensors["query_weight"] = projection.query.weight
        tensors["query_offset"] = projection.query.offset
    return tensors


def check_names(tensors: Mapping[str, Any], *, name: Path | str) -> None:
    """Raises unless the tensors are those of a projection, with or without those of queries.

    Raises:
        CheckpointError: They are not; lists their names.
    """
    if set(tensors) not in ({*_REQUIRED}, {*_REQUIRED, *_OF_QUERIES}):
        raise CheckpointError(
            f"{name} must hold the tensors {' and '.join(_REQUIRED)}, and either all or none of "
            f"{', '.join(_OF_QUERIES)}; got {sorted(tensors)}"
        )


def projection_from_tensors(tensors: Mapping[str, Vectors], *, layout: BlockLayout) -> Projection:
    """Builds a projection from named tensors; the inverse of `projection_tensors`."""
    query = None
    if "query_weight" in tensors:
        query = QuerySide(weight=tensors["query_weight"], offset=tensors["query_offset"])
    return Projection(
        weight=tensors["weight"],
        mean=tensors["mean"],
        layout=layout,
        offset=tensors.get("offset"),
        query=query,
    )
