"""Records of an engine by id, or page by page; needs no model."""

import heapq
from collections.abc import Sequence

from subspace.data.records import Record
from subspace.errors import QueryError
from subspace.retrieval.engines import Engine
from subspace.retrieval.engines.engine import check_k
from subspace.retrieval.engines.filters import Where, check_where, explain_nothing

# Documents that are fetched at once, with their vectors.
_BATCH = 1000
# Ids that a message lists.
_SHOWN = 5


def get_records(engine: Engine, ids: Sequence[str]) -> list[Record]:
    """Returns records by id, in the order of `ids`.

    Raises:
        QueryError: An id is not in the index.
        EngineError: A server cannot be reached.
    """
    if isinstance(ids, str):
        raise QueryError(f"ids are a list: give [{ids!r:.60}]")
    found: dict[str, Record] = {}
    for start in range(0, len(ids), _BATCH):
        documents = engine.fetch(ids[start : start + _BATCH]).documents
        found.update((document.id, document) for document in documents)
    unknown = [name for name in ids if name not in found]
    if unknown:
        more = f" and {len(unknown) - _SHOWN} more" if len(unknown) > _SHOWN else ""
        raise QueryError(f"not in the index: {', '.join(map(str, unknown[:_SHOWN]))}{more}")
    return [found[name] for name in ids]


def list_records(
    engine: Engine, *, where: Where | None = None, after: str | None = None, limit: int | None
) -> list[Record]:
    """Returns a page of records by rising id; reads the metadata of all.

    Args:
        engine: Where they are.
        where: Metadata that they must have; see `filters`.
        after: Id after which the page begins, in the index or not; None for the first page.
        limit: Largest number of records; None for all.

    Raises:
        QueryError: A filter is malformed, or no item has its metadata or values of its kind.
        ConfigError: `limit` is no whole number of 1 or more.
        EngineError: A server cannot be reached.
    """
    conditions = check_where(where)
    there = list(engine.metadata())
    passing = [
        name
        for name, metadata in there
        if all(condition.holds(metadata.get(condition.name)) for condition in conditions)
    ]
    if there and not passing:
        reason = explain_nothing(where, (metadata for _, metadata in there))
        if reason is not None:
            raise QueryError(f"where: {reason}")
    rest = passing if after is None else [name for name in passing if name > after]
    page = sorted(rest) if limit is None else heapq.nsmallest(check_k(limit, name="limit"), rest)
    # Fetched without asking whether all are there: others may have removed some meanwhile.
    return [
        document
        for start in range(0, len(page), _BATCH)
        for document in engine.fetch(page[start : start + _BATCH]).documents
    ]
