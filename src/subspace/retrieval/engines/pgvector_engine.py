"""PgvectorEngine: an index in one table of PostgreSQL, with the extension pgvector.

Where it is: `postgresql://USER:PASSWORD@HOST:PORT/DB?parameters#TABLE`. The name of the table is
taken as it is and found along the `search_path`; all parameters are those of libpq. Its columns::

    id         text, the primary key
    seq        bigint, the order of adding: an updated document keeps its place
    text       text
    metadata   jsonb, flat
    embedding  vector(dim), unit blocks

The comment of the table says what the manifest of an index folder says: format version, layout,
projection and settings. A table without such a comment is never touched.

A search is one SQL statement: folded query, priors and filter together, so that nothing is built
anew when weights, recency or importance change. pgvector's inner products are sums in float32;
everything around them is double precision.
"""

import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import numpy as np

from subspace.arrays import Vectors
from subspace.blocks import BlockLayout
from subspace.data.records import Record
from subspace.errors import ConfigError, EngineError
from subspace.retrieval.engines.engine import (
    ROUNDING,
    Candidates,
    Priors,
    Where,
    check_documents,
    check_k,
    check_queries,
)
from subspace.retrieval.engines.pgvector_connection import (
    Address,
    opening,
    register,
    translate_errors,
)
from subspace.retrieval.engines.pgvector_statements import (
    COUNT,
    CREATE_GRAPH,
    DELETE,
    FETCH,
    HAS_GRAPH,
    SAMPLE,
    SEARCH,
    SEARCH_GRAPH,
    SEARCH_PRIORS,
    SET_CANDIDATES,
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

_ID_BYTES = 2600
_DIM = 16_000
_HNSW_DIM = 2000
_HNSW_CANDIDATES = 1000
# Documents of one INSERT; the transaction is around all of them.
_BATCH = 500
# Documents asked for beyond the k-th, to see which of them tie with it.
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
    """Documents and vectors in a table; what a call has written when it returns is kept.

    A lost connection is an `EngineError`, and the next call connects again. Calls of several
    threads wait for each other.
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
        """Takes over an open connection; use `open` or `create`."""
        self._address = address
        self._connection: Connection[Any] | None = connection
        self._table = table
        self._about = about
        self._lock = threading.RLock()

    @classmethod
    def open(cls, target: str) -> Self:
        """Opens an index that is there.

        Args:
            target: `postgresql://USER:PASSWORD@HOST:PORT/DB#TABLE`.

        Raises:
            EngineError: The server cannot be reached, there is no such table, it is not an index,
                or is damaged, or a package is not installed.
        """
        address = Address.parse(target)
        with opening(address) as connection:
            table = look_up(connection, address)
            if table is None:
                raise EngineError(f"there is no {str(address)[4:]}; build it with `subspace index`")
            about = read_about(table, address=address)
            register(connection)
        return cls(address, connection, table=table, about=about)

    @classmethod
    def create(
        cls, target: str, *, layout: BlockLayout, projection_digest: str, hnsw: bool = False
    ) -> Self:
        """Makes an empty index, in the place of one of that name: whole, or not at all.

        Args:
            target: `postgresql://USER:PASSWORD@HOST:PORT/DB#TABLE`.
            layout: The blocks of every vector.
            projection_digest: Identifies the projection that makes the vectors.
            hnsw: Search a graph (HNSW, m 16, ef_construction 64), which finds nearly all of the
                best, and at once, among millions; up to 2,000 dimensions. Otherwise every search
                reads all vectors, and is exact.

        Raises:
            ConfigError: `hnsw` is no truth value, or there are too many dimensions for it.
            EngineError: The server cannot be reached or refuses, the table is something else,
                there are more than 16,000 dimensions, or a package is not installed.
        """
        _check_settings(hnsw=hnsw, dim=layout.dim)
        about = IndexMetadata(layout=layout, projection_digest=projection_digest, hnsw=hnsw)
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
        """Identifies the projection that made the vectors."""
        return self._about.projection_digest

    @property
    def exact(self) -> bool:
        """Whether a search finds the best for certain: without HNSW."""
        return not self._about.hnsw

    def upsert(self, documents: Sequence[Record], vectors: Vectors) -> None:
        """Adds documents with their vectors, in the place of those with the same ids.

        All of them or, if any is refused or the connection is lost, none. One writer at a time;
        who searches meanwhile finds what was there before.

        Raises:
            EngineError: An id is empty, too long or given twice, metadata cannot be kept, the index
                was made anew by somebody else, or the server refuses or is gone.
            LayoutError: The vectors have another shape, or are not finite.
        """
        check_documents(documents, vectors, layout=self.layout)
        _check_ids(documents)
        if not documents:
            return
        rows = np.ascontiguousarray(vectors, dtype=np.float32)
        with self._session() as connection, connection.transaction():
            connection.execute(self._sql("LOCK TABLE {table} IN SHARE ROW EXCLUSIVE MODE"), ())
            now = look_up(connection, self._address)
            if now is None or (now.oid, now.comment) != (self._table.oid, self._table.comment):
                raise self._replaced()
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
        """Removes documents and gives their number; ids that are not there are passed over.

        Raises:
            EngineError: The server refuses or is gone.
        """
        with self._session() as connection:
            return connection.execute(self._sql(DELETE), (storable(ids),)).rowcount

    def search(
        self, queries: Vectors, *, k: int, priors: Priors | None = None, where: Where | None = None
    ) -> list[Candidates]:
        """The best `k` of each query, and what ties with the last, in the order of adding.

        With HNSW, candidates are the nearest by inner product, four times `k` and at least 100,
        together with the items of the highest priors. Where these are not enough (a filter leaves
        too few, or `k` is above 250) all vectors are read.

        Raises:
            ConfigError: `k` is no whole number from 1.
            LayoutError: The queries have another shape, or are not finite.
            QueryError: `where` is not what it must be.
            EngineError: The server refuses or is gone, or the index was made anew.
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
        """Documents by id, in the order asked for; ids that are not there are left out.

        Raises:
            EngineError: The server refuses or is gone, or the index was made anew.
        """
        with self._session() as connection:
            return self._take(self._select(connection, self._sql(FETCH), (storable(ids),)))

    def sample(self, count: int) -> Candidates:
        """`count` documents, the same every time, from all over; all, if there are no more.

        Raises:
            EngineError: The server refuses or is gone, or the index was made anew.
        """
        with self._session() as connection:
            rows = self._select(connection, self._sql(SAMPLE), (count,))
        return self._take(sorted(rows, key=lambda row: row.seq))

    def count(self, where: Where | None = None) -> int:
        """Number of documents, or of those with such metadata.

        Raises:
            QueryError: `where` is not what it must be.
            EngineError: The server refuses or is gone.
        """
        condition, values = compose_filter(where)
        with self._session() as connection:
            row = connection.execute(self._sql(COUNT, filter=condition), values).fetchone()
        return int(row[0]) if row else 0

    def save(self) -> None:
        """Nothing to do: what a call has written when it returns is kept."""

    def close(self) -> None:
        """Closes the connection; what was written is kept."""
        with self._lock:
            if self._connection is not None:
                self._connection.close()
            self._connection = None

    @contextmanager
    def _session(self) -> Iterator["Connection[Any]"]:
        """The connection, for one call; a new one, if the last was lost.

        Raises:
            EngineError: The engine was closed, or the server refuses or is gone.
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

    def _make_graph(self, connection: "Connection[Any]") -> None:
        if connection.execute(HAS_GRAPH, (self._table.oid,)).fetchone() is None:
            for statement in CREATE_GRAPH:
                connection.execute(self._sql(statement), ())

    def _select(self, connection: "Connection[Any]", query: Any, parameters: Any) -> list[_Row]:
        from psycopg.rows import args_row

        with connection.cursor(row_factory=args_row(_Row), binary=True) as cursor:
            rows = cursor.execute(query, parameters).fetchall()
        # The vectors of another projection must not be taken for ours.
        if any(row.table != self._table.oid for row in rows):
            raise self._replaced()
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


def _check_ids(documents: Sequence[Record]) -> None:
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
    """The first `k` of rows by falling score, and what ties with the last, in order of adding."""
    if len(rows) > k:
        least = rows[k - 1].score - margin
        rows = [row for row in rows if row.score >= least]
    return sorted(rows, key=lambda row: row.seq)
