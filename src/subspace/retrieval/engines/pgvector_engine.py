"""PgvectorEngine: an index in one table of PostgreSQL, with the extension pgvector.

Its address is `postgresql://USER:PASSWORD@HOST:PORT/DB?parameters#TABLE`, with libpq's parameters.
The name of the table is taken literally and found along the `search_path`. The columns::

    id         text, the primary key
    seq        bigint, the order of adding: an updated document keeps its place
    text       text
    metadata   jsonb
    embedding  vector(dim), unit blocks

The comment of the table holds format version, layout, projection and settings, as the manifest of
an index folder does. A table without such a comment is never changed.

A search is one SQL statement per query, with weighted query vector, priors and filter, so nothing
is rebuilt when weights, recency or importance change. pgvector computes inner products in float32;
everything else is in double precision.
"""

import threading
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import numpy as np

from subspace.arrays import Vectors
from subspace.blocks import BlockLayout
from subspace.data.metadata import Value
from subspace.data.records import Record
from subspace.errors import ConfigError, EngineError, MissingIndexError
from subspace.model.centre import Centre
from subspace.retrieval.engines.engine import (
    ROUNDING,
    Candidates,
    Priors,
    check_documents,
    check_k,
    check_queries,
)
from subspace.retrieval.engines.filters import Where
from subspace.retrieval.engines.pgvector_connection import (
    Address,
    opening,
    register,
    translate_errors,
)
from subspace.retrieval.engines.pgvector_statements import (
    ADVANCE,
    COUNT,
    CREATE_GRAPH,
    DELETE,
    FETCH,
    HAS_GRAPH,
    LOCK,
    METADATA,
    SAMPLE,
    SEARCH,
    SEARCH_GRAPH,
    SEARCH_PRIORS,
    SET_CANDIDATES,
    STATE,
    UPSERT,
)
from subspace.retrieval.engines.pgvector_table import (
    MAKING,
    IndexMetadata,
    Table,
    look_up,
    make_extension,
    make_table,
    read_about,
)
from subspace.retrieval.engines.pgvector_values import (
    compose,
    compose_filter,
    prior_values,
    quote_name,
    storable,
    to_array,
    write_json,
)

if TYPE_CHECKING:
    from psycopg import Connection, sql

# Limits of PostgreSQL's index of ids, of pgvector's vectors, and of its HNSW.
_ID_BYTES = 2600
_DIM = 16_000
_HNSW_DIM = 2000
_HNSW_CANDIDATES = 1000
# Documents per INSERT; one transaction holds all of an upsert.
_BATCH = 500
# Rows read beyond the k-th, to find those that tie with it.
_SURPLUS = 32


class _Row(NamedTuple):
    id: str
    text: str
    metadata: dict[str, Any]
    embedding: Any
    seq: int
    table: int
    score: float = 0.0


class PgvectorEngine:
    """An engine with documents and vectors in a table; every call commits what it writes.

    A call that loses the connection raises `EngineError`, and the next call connects again. Calls
    from several threads wait for each other.
    """

    name = "pgvector"

    def __init__(
        self,
        address: Address,
        connection: "Connection[Any]",
        *,
        table: Table,
        about: IndexMetadata,
    ) -> None:
        """Takes an open connection; use `open` or `create` instead."""
        self._address = address
        self._connection: Connection[Any] | None = connection
        self._table = table
        self._about = about
        self._lock = threading.RLock()

    @classmethod
    def open(cls, target: str) -> Self:
        """Opens an existing index.

        Args:
            target: `postgresql://USER:PASSWORD@HOST:PORT/DB#TABLE`.

        Raises:
            EngineError: The server cannot be reached, there is no such table, it is no index or a
                damaged one, or a package is not installed.
        """
        address = Address.parse(target)
        with opening(address) as connection:
            table = look_up(connection, address)
            if table is None:
                raise MissingIndexError(
                    f"there is no {str(address)[4:]}; build it with `subspace index`"
                )
            about = read_about(table, address=address)
            register(connection)
        return cls(address, connection, table=table, about=about)

    @classmethod
    def create(
        cls,
        target: str,
        *,
        layout: BlockLayout,
        projection_digest: str,
        centre: Centre | None = None,
        hnsw: bool = False,
    ) -> Self:
        """Makes an empty index, and replaces one of the same name in the same transaction.

        Args:
            target: `postgresql://USER:PASSWORD@HOST:PORT/DB#TABLE`.
            layout: The blocks of every vector.
            projection_digest: Digest of the projection of the vectors, before it is centred.
            centre: What the model's blocks were centred on, if anything.
            hnsw: Whether to search a graph (HNSW, m 16, ef_construction 64), which quickly finds
                nearly all of the best among millions; at most 2,000 dimensions. Otherwise every
                search reads all vectors, and is exact.

        Raises:
            ConfigError: `hnsw` is no bool, or there are too many dimensions for it.
            EngineError: The server cannot be reached or refuses, the table is no index, there are
                more than 16,000 dimensions, or a package is not installed.
        """
        _check_settings(hnsw=hnsw, dim=layout.dim)
        about = IndexMetadata(
            layout=layout, projection_digest=projection_digest, hnsw=hnsw, centre=centre
        )
        address = Address.parse(target)
        with opening(address) as connection:
            with connection.transaction():
                connection.execute("SELECT pg_advisory_xact_lock(%s)", (MAKING,))
                make_extension(connection, address=address)
                make_table(connection, about, address=address)
            table = look_up(connection, address)
            if table is None:
                raise EngineError(f"{address} was removed by somebody else; make it again")
            register(connection)
        return cls(address, connection, table=table, about=about)

    @property
    def layout(self) -> BlockLayout:
        """The blocks of every vector."""
        return self._about.layout

    @property
    def projection_digest(self) -> str:
        """Digest of the projection that made the vectors, before it was centred."""
        return self._about.projection_digest

    @property
    def centre(self) -> Centre | None:
        """What the model's blocks were centred on; None for its own mean."""
        return self._about.centre

    @property
    def exact(self) -> bool:
        """Whether a search is guaranteed to find the best documents: only without HNSW."""
        return not self._about.hnsw

    def upsert(self, documents: Sequence[Record], vectors: Vectors) -> None:
        """Adds documents with their vectors; replaces documents with the same ids.

        If a document is refused or the connection is lost, none is written. Writers wait for each
        other; searches meanwhile see the earlier state.

        Raises:
            EngineError: An id is empty, too long or given twice, metadata cannot be stored, another
                client made the index again, the server refuses, or the connection is lost.
            LayoutError: The vectors are not (len(documents), dim), or not finite.
        """
        check_documents(documents, vectors, layout=self.layout)
        check_ids(documents)
        if not documents:
            return
        rows = np.ascontiguousarray(vectors, dtype=np.float32)
        with self._changing() as connection:
            for start in range(0, len(documents), _BATCH):
                part = slice(start, start + _BATCH)
                given = (
                    [document.id for document in documents[part]],
                    [document.text for document in documents[part]],
                    [write_json(document.metadata) for document in documents[part]],
                    list(rows[part]),
                )
                connection.execute(self._sql(UPSERT), given)
            if self._about.hnsw:
                self._make_graph(connection)

    def delete(self, ids: Sequence[str]) -> int:
        """Removes documents and returns their number; unknown ids are ignored.

        Raises:
            EngineError: The server refuses, the connection is lost, or the index was made again.
        """
        with self._changing() as connection:
            removed = connection.execute(self._sql(DELETE), (storable(ids),)).rowcount
            if removed:
                connection.execute(ADVANCE, (self._table.oid,))
            return removed

    def search(
        self, queries: Vectors, *, k: int, priors: Priors | None = None, where: Where | None = None
    ) -> list[Candidates]:
        """Finds the best `k` for each query and ties with the last, in the order of adding.

        At most 32 ties are returned. With HNSW, the candidates are the 4 * `k` (at least 100)
        nearest by inner product, and the documents with the highest priors. If fewer than `k` of
        them pass the filter, or `k` is above 250, all vectors are read.

        Raises:
            ConfigError: `k` is no whole number of 1 or more.
            LayoutError: The queries are not (Q, dim), or not finite.
            QueryError: `where` is not valid; see `filters`.
            EngineError: The connection is lost, the server refuses, or the index was made again.
        """
        k = check_k(k)
        check_queries(queries, layout=self.layout)
        condition, values = compose_filter(where)
        parameters = {**values, **prior_values(priors), "limit": min(k + _SURPLUS, 2**62)}
        exact = self._sql(SEARCH if priors is None else SEARCH_PRIORS, filter=condition)
        near = None
        candidates = max(100, 4 * k)
        found: list[list[_Row]] = []
        with self._session() as connection, ExitStack() as stack:
            if not self.exact and candidates <= _HNSW_CANDIDATES:
                near = self._sql(SEARCH_GRAPH, filter=condition)
                parameters["candidates"] = candidates
                stack.enter_context(connection.transaction())
                connection.execute(SET_CANDIDATES, (str(candidates),))
            for query in queries:
                parameters["query"] = query
                rows = [] if near is None else self._select(connection, near, parameters)
                if len(rows) < k:
                    rows = self._select(connection, exact, parameters)
                found.append(rows)
        largest = _largest(priors)
        return [
            self._take(_best(rows, k=k, margin=ROUNDING * (float(np.abs(query).sum()) + largest)))
            for rows, query in zip(found, queries, strict=True)
        ]

    def fetch(self, ids: Sequence[str]) -> Candidates:
        """Returns documents by id, in the order of `ids`; unknown ids are left out.

        Raises:
            EngineError: The connection is lost, the server refuses, or the index was made again.
        """
        with self._session() as connection:
            return self._take(self._select(connection, self._sql(FETCH), (storable(ids),)))

    def sample(self, count: int) -> Candidates:
        """Returns the `count` documents with the smallest MD5 of the id; all if there are fewer.

        Raises:
            EngineError: The connection is lost, the server refuses, or the index was made again.
        """
        with self._session() as connection:
            rows = self._select(connection, self._sql(SAMPLE), (count,))
        return self._take(sorted(rows, key=lambda row: row.seq))

    def count(self, where: Where | None = None) -> int:
        """Counts all documents, or those whose metadata match `where`.

        Raises:
            QueryError: `where` is not valid; see `filters`.
            EngineError: The server refuses, the connection is lost, or the index was made again.
        """
        condition, values = compose_filter(where)
        with self._session() as connection:
            row = connection.execute(self._sql(COUNT, filter=condition), values).fetchone()
            self._check_table(connection)
        return int(row[0]) if row else 0

    def state(self) -> Hashable:
        """Returns the last number that a change took.

        None while another client writes, or if this user may not read the sequence of numbers.

        Raises:
            EngineError: The server refuses, the connection is lost, or the index was made again.
        """
        with self._session() as connection:
            row = connection.execute(STATE, (self._table.oid,)).fetchone()
        if row is None:
            raise self._replaced()
        last, is_written = row
        return None if is_written else last

    def metadata(self) -> Iterator[tuple[str, Mapping[str, Value]]]:
        """Reads the id and the metadata of every document.

        Raises:
            EngineError: The server refuses, or the connection is lost.
        """
        with self._session() as connection:
            rows = connection.execute(self._sql(METADATA), ()).fetchall()
        yield from rows

    def save(self) -> None:
        """Does nothing: every call commits its changes before it returns."""

    def refresh(self) -> bool:
        """Does nothing: every call sees what others have changed."""
        return False

    def close(self) -> None:
        """Closes the connection."""
        with self._lock:
            if self._connection is not None:
                self._connection.close()
            self._connection = None

    @contextmanager
    def _session(self) -> Iterator["Connection[Any]"]:
        """Yields the connection for one call; connects again if it was lost.

        Raises:
            EngineError: The engine was closed, or the server refuses or cannot be reached.
        """
        with self._lock:
            if self._connection is None:
                raise EngineError(f"{self._address} was closed; open it again")
            if self._connection.closed:
                with opening(self._address) as connection:
                    register(connection)
                self._connection = connection
            with translate_errors(self._address, self._connection):
                yield self._connection

    @contextmanager
    def _changing(self) -> Iterator["Connection[Any]"]:
        """Yields the connection for a change in one transaction; other writers wait.

        Raises:
            EngineError: As `_session`, or the index was made again.
        """
        with self._session() as connection, connection.transaction():
            connection.execute(self._sql(LOCK), ())
            self._check_table(connection)
            yield connection

    def _check_table(self, connection: "Connection[Any]") -> None:
        """Raises `EngineError` if another client has made the table again."""
        now = look_up(connection, self._address)
        if now is None or (now.oid, now.comment) != (self._table.oid, self._table.comment):
            raise self._replaced()

    def _make_graph(self, connection: "Connection[Any]") -> None:
        if connection.execute(HAS_GRAPH, (self._table.oid,)).fetchone() is None:
            for statement in CREATE_GRAPH:
                connection.execute(self._sql(statement), ())

    def _select(self, connection: "Connection[Any]", query: Any, parameters: Any) -> list[_Row]:
        from psycopg.rows import args_row

        with connection.cursor(row_factory=args_row(_Row), binary=True) as cursor:
            rows = cursor.execute(query, parameters).fetchall()
        # Another client may have made the table again, with vectors of another projection.
        if any(row.table != self._table.oid for row in rows):
            raise self._replaced()
        if not rows:
            self._check_table(connection)
        return rows

    def _take(self, rows: Sequence[_Row]) -> Candidates:
        vectors = np.empty((len(rows), self.layout.dim), dtype=np.float32)
        for place, row in enumerate(rows):
            vectors[place] = to_array(row.embedding)
        return Candidates(
            documents=tuple(
                Record(id=row.id, text=row.text, metadata=row.metadata) for row in rows
            ),
            vectors=vectors,
        )

    def _sql(self, template: str, **parts: Any) -> "sql.Composed":
        return compose(template, table=quote_name(self._table.schema, self._address.table), **parts)

    def _replaced(self) -> EngineError:
        return EngineError(f"{self._address} was made anew by somebody else; open it again")


def _check_settings(*, hnsw: Any, dim: int) -> None:
    if not isinstance(hnsw, bool):
        raise ConfigError(f"hnsw must be true or false, got {hnsw!r:.60}")
    if hnsw and dim > _HNSW_DIM:
        raise ConfigError(
            f"hnsw takes up to {_HNSW_DIM} dimensions, the blocks have {dim} together; make the "
            "index without hnsw, or the blocks narrower"
        )
    if dim > _DIM:
        raise EngineError(f"pgvector keeps up to {_DIM} dimensions, the blocks have {dim} together")


def check_ids(documents: Iterable[Record]) -> None:
    """Raises `EngineError` if an id is too long for PostgreSQL."""
    for document in documents:
        size = len(document.id.encode())
        if size > _ID_BYTES:
            raise EngineError(
                f"the id {document.id:.60}... has {size} bytes; PostgreSQL finds documents by ids "
                f"of up to {_ID_BYTES}"
            )


def _largest(priors: Priors | None) -> float:
    if priors is None:
        return 0.0
    return max(abs(priors.default), float(np.abs(priors.values).max(initial=0)))


def _best(rows: Sequence[_Row], *, k: int, margin: float) -> list[_Row]:
    """Keeps the first `k` of rows by falling score, and ties; sorts by the order of adding."""
    if len(rows) > k:
        least = rows[k - 1].score - margin
        rows = [row for row in rows if row.score >= least]
    return sorted(rows, key=lambda row: row.seq)
