"""What can be asked: a text, an item, or one of them per block."""

from collections.abc import Mapping
from dataclasses import dataclass

from subspace.errors import QueryError


@dataclass(frozen=True)
class Like:
    """More like an item of the index; the item itself is not among the hits.

    Attributes:
        id: The item's id.
    """

    id: str


# A composed query names a text or an item per block; blocks left out match nothing.
Query = str | Like | Mapping[str, str | Like]


def texts_of(query: Query) -> list[str]:
    """The texts in a query.

    Raises:
        QueryError: Something else than texts and items is in it.
    """
    return [part for part in _parts(query) if isinstance(part, str)]


def items_of(query: Query) -> list[str]:
    """The ids of the items in a query.

    Raises:
        QueryError: Something else than texts and items is in it.
    """
    return [part.id for part in _parts(query) if isinstance(part, Like)]


def _parts(query: Query) -> list[str | Like]:
    parts = list(query.values()) if isinstance(query, Mapping) else [query]
    for part in parts:
        if not isinstance(part.id if isinstance(part, Like) else part, str):
            raise QueryError(
                f"a query is a text, Like(id), or a mapping of either by block, got {part!r:.60}"
            )
    return parts
