"""What a search says of an item that it found, in the form of metadata.

::

    {"score": 0.61, "parts": {"topic": {"recency": 0.0, ...}}, "query_id": "9f..."}

It stands beside the item's own metadata, under one name, so that these pass unchanged.
"""

from collections.abc import Mapping
from copy import deepcopy
from typing import Any

from subspace.errors import ConfigError
from subspace.retrieval import Hit, Results

KEY = "subspace"
_NAMES = frozenset(("score", "parts", "query_id"))


def copied(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a copy of an item's metadata, which may be changed without changing the index."""
    return deepcopy(dict(metadata))


def metadata_of(hit: Hit, *, results: Results, key: str) -> dict[str, Any]:
    """Returns an item's own metadata, and under `key` its score, the parts and the query's id.

    Raises:
        ConfigError: The item has metadata of that name.
    """
    own = copied(hit.metadata)
    if key in own:
        raise ConfigError(
            f"item '{hit.id:.60}' has metadata '{key}' of its own: "
            f"choose another name for the score with metadata_key="
        )
    parts = {block: dict(of_block) for block, of_block in hit.parts.items()}
    return {**own, key: {"score": hit.score, "parts": parts, "query_id": results.query_id}}


def without_found(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Returns metadata as an index keeps them: copied, without what a search said of the item."""
    return {name: deepcopy(value) for name, value in metadata.items() if not _is_of_a_search(value)}


def _is_of_a_search(value: object) -> bool:
    return isinstance(value, dict) and value.keys() == _NAMES
