"""The forms of a query: a text, an item of the index, or one of them per block."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from subspace.errors import QueryError


@dataclass(frozen=True)
class Like:
    """A query for items similar to one of the index; the item itself is left out of the hits.

    Attributes:
        id: The item's id.
    """

    id: str


# The mapping gives a text or an item by block. Blocks that it leaves out add no relevance.
Query = str | Like | Mapping[str, str | Like]


def texts_of(query: Query) -> list[str]:
    """Returns the texts in a query.

    Raises:
        QueryError: The query holds something other than texts and items.
    """
    return [part for part in _parts(query) if isinstance(part, str)]


def items_of(query: Query) -> list[str]:
    """Returns the ids of the items in a query.

    Raises:
        QueryError: The query holds something other than texts and items.
    """
    return [part.id for part in _parts(query) if isinstance(part, Like)]


def blocks_of(queries: Iterable[Query]) -> list[str]:
    """Returns the blocks that composed queries name, each once."""
    named = [name for query in queries if isinstance(query, Mapping) for name in query]
    return list(dict.fromkeys(named))


def read_unlike(unlike: Query | Sequence[Query] | None) -> tuple[Query, ...]:
    """Returns negative examples as a sequence of queries; one alone need not be in a list.

    Raises:
        QueryError: One of them is no query, or names no block.
    """
    if unlike is None:
        return ()
    queries: tuple[Query, ...]
    if isinstance(unlike, Sequence) and not isinstance(unlike, str):
        queries = tuple(unlike)
    else:
        queries = (unlike,)
    for query in queries:
        if not _parts(query):
            raise QueryError("unlike: a query by block needs a text or an item for one at least")
    return queries


def _parts(query: Query) -> list[str | Like]:
    parts = list(query.values()) if isinstance(query, Mapping) else [query]
    for part in parts:
        if not isinstance(part.id if isinstance(part, Like) else part, str):
            raise QueryError(
                f"a query is a text, Like(id), or a mapping of either by block, got {part!r:.60}"
            )
    return parts
